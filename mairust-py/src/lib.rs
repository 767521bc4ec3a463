//! The native part of the Python package `mairust`: the server, its storage and its command line inside a Python
//! process. `python/mairust/` is what users see.
//!
//! Nothing here enters the interpreter on a thread of the async runtime. Calls of hooks are put into [`calls`], where
//! threads of Python fetch them; what is told to Python otherwise is told to whoever waits for it.

use pyo3::prelude::*;

mod calls;
mod errors;
mod hook;
mod logs;
mod mail;
mod server;
mod storage;

/// The native module.
#[pymodule(gil_used = false)]
mod _mairust {
    use std::ffi::OsString;

    use mairust::cli::PythonHooks;
    use mairust_hooks::HookPoint;
    use mairust_hooks::protocol::HookResponse;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::calls::Calls;
    #[pymodule_export]
    use super::hook::Call;
    #[pymodule_export]
    use super::logs::{Logs, log};
    #[pymodule_export]
    use super::mail::Mail;
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::storage::Storage;

    /// Runs the command line `arguments`, the name of the program first, until it ends, and returns its exit code.
    /// Other Python threads go on meanwhile. `hooks` is called with what `--hooks` says, and returns [`Calls`].
    #[pyfunction]
    #[pyo3(signature = (arguments, hooks=None))]
    fn run(py: Python<'_>, arguments: Vec<OsString>, hooks: Option<Py<PyAny>>) -> u8 {
        let Some(hooks) = hooks else {
            return py.detach(|| mairust::cli::run(arguments));
        };
        let start = |target: &str| -> Result<PythonHooks, String> {
            Python::attach(|py| {
                let calls = hooks.bind(py).call1((target,));
                let found = calls.and_then(|calls| Ok(calls.cast::<Calls>()?.get().for_server()));
                found.map_err(|error| {
                    error.display(py);
                    error.to_string()
                })
            })
        };
        py.detach(|| mairust::cli::run_with_python(arguments, &start))
    }

    /// Checks an answer of a hook at this point as the server does.
    #[pyfunction]
    fn check_answer(answer: &[u8], point: &str) -> PyResult<()> {
        let point = HookPoint::parse(point).ok_or_else(|| crate::errors::configuration("there is no such point"))?;
        HookResponse::parse(answer, point).map(drop).map_err(|error| crate::errors::invalid_answer(&error))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
