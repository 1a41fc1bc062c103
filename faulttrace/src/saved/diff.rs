//! stub
use crate::cli::DiffPlan;
pub fn diff(_plan: &DiffPlan) -> anyhow::Result<()> {
    Ok(())
}
