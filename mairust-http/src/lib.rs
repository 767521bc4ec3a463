//! REST API of the MaiRust mail platform as an axum router
