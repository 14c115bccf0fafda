use std::panic::{self, PanicHookInfo};

use crate::host::{self, Level};

/// From now on a panic is heard before it ends the instance.
pub(crate) fn are_logged() {
    panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    host::log(Level::Error, &[message, &place].concat());
}
