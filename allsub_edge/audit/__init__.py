"""What a data set and a segmentation recipe are worth, before anything is trained on them.

For the workstation (extra ``train``): :mod:`allsub_edge.audit.dataset_audit` looks for what would
make an accuracy meaningless, :mod:`allsub_edge.audit.segmentation` holds the recipes against masks
drawn by hand, :mod:`allsub_edge.audit.recipe_ablation` compares the recipes as a second channel.
"""
