//! stub for compile
use crate::{cli::BrokerCommand, error::CommandError, terminal::Terminal};
/// x
/// # Errors
/// never
pub fn run(_args: &BrokerCommand, _terminal: Terminal) -> Result<(), CommandError> {
    Ok(())
}
