//! The native part of the Python package `mairust`: the command line of the server, inside the
//! Python process. `python/mairust/__init__.py` is what users see.

use pyo3::prelude::*;

/// The native module.
#[pymodule(gil_used = false)]
mod _mairust {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    /// Runs the command line `arguments`, the name of the program first, until it ends, and
    /// returns its exit code. Other Python threads go on meanwhile.
    #[pyfunction]
    fn run(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
        py.detach(|| mairust::cli::run(arguments))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
