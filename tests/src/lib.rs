//! Tests about the whole tree are in `tidy/`, the end-to-end suite is in `e2e/`.
