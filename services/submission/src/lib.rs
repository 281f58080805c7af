//! mox-submission.
