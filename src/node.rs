//! stub
use crate::{cli::BrokerCommand, error::CommandError, terminal::Terminal};
/// x
pub fn run(_args: &BrokerCommand, _terminal: Terminal) -> Result<(), CommandError> {
    Ok(())
}
