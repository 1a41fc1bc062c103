//! stub
use crate::cli::ReportPlan;
pub fn report(_plan: &ReportPlan) -> anyhow::Result<()> {
    Ok(())
}
