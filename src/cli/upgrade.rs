//! `upgrade`: has the running gateway replaced by a new process.

use super::{Failure, UpgradeArgs, print};
use crate::app;
use crate::config;
use std::path::PathBuf;

pub(super) fn upgrade(args: &UpgradeArgs) -> Result<(), Failure> {
    let told = app::upgrade::wish(&socket(args)?).map_err(Failure::failed)?;
    print(&format!("{told}\n"))
}

/// The socket by the arguments or by the file.
fn socket(args: &UpgradeArgs) -> Result<PathBuf, Failure> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    let Some(file) = &args.config else { return Err(Failure::refused("write `-c FILE` or `--socket PATH`")) };
    let (config, _) = config::load(file, &|name| std::env::var(name).ok()).map_err(Failure::refused)?;
    config.upgrade.ok_or_else(|| Failure::refused(app::upgrade::UpgradeError::Off))
}
