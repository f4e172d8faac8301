# Sourced by scripts that need the rooms where an installation puts them: `export` and `benchmarks`
# lie in folders of their own here and are allsub_edge.export and allsub_edge.benchmarks there.
lay_out() { # FOLDER: becomes the parent of the whole package
    mkdir -p "$1"
    rm -rf "$1/allsub_edge"
    cp -R allsub_edge "$1/allsub_edge"
    cp -R benchmarks export "$1/allsub_edge/"
}
