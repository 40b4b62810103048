//! `run`: serves what the file says, until it is told to stop.

use super::{Failure, RunArgs};
use crate::app::{self, Origin, StartError};

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let origin = if args.upgrade { Origin::Running } else { Origin::Nothing };
    let ready = app::start(&args.config.config, origin).map_err(|error| match error {
        StartError::Config(_) => Failure::refused(error),
        other => Failure::failed(other),
    })?;
    ready.serve().map_err(Failure::failed)
}
