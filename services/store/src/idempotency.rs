//! Results of changes, kept by the key that the caller made, so that a change is safe to repeat.
