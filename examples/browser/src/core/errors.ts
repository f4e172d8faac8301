/** Problems with one clear line for people; `code` is stable and equal to the Python package's. */

export class AppError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = new.target.name;
  }
}

/** A field that cannot be read. */
export class FieldError extends AppError {}

/** A model file that cannot be used. */
export class ModelFileError extends AppError {}
