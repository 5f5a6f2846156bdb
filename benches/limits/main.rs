//! How much of an account's limits is used, and at the cost of how many 429s.
//!
//! `cargo bench --bench limits` prints one table: claudeq's turns, ledger and store against the
//! simulator in virtual time, beside the clients people write. The optimum is
//! (demand − burst) ÷ rate in the dimension that binds; the last call's own latency counts
//! against everybody. `cargo bench --bench limits -- NAME` runs the cases whose name has NAME in
//! it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of a workload, all small and positive"
)]

mod cases;
mod rivals;
mod workload;
#[expect(dead_code, reason = "the tests ask for more")]
mod world;

fn main() -> anyhow::Result<()> {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!(
        "{:<44} {:>8} {:>8} {:>6} {:>6} {:>6}",
        "", "optimum", "target", "429s", "most", "lost"
    );
    for case in cases::all() {
        if !only.is_empty() && !only.iter().any(|only| case.name.contains(only.as_str())) {
            continue;
        }
        let row = runtime.block_on(cases::run(&case))?;
        println!(
            "{:<44} {:>8.3} {:>8.3} {:>6} {:>6} {:>6}  {}",
            case.name, row.part, case.part, row.refused, case.refused, row.lost, row.note
        );
    }
    if only.is_empty() || only.iter().any(|only| "rivals".contains(only.as_str())) {
        println!("\nthe same 1,500 jobs by clients without a ledger:");
        for (name, row) in cases::rivals()? {
            let cases::Row { part, refused, lost, note } = row;
            // What was lost needed no time.
            let part = if lost > 0 { "–".to_owned() } else { format!("{part:.3}") };
            println!("{name:<44} {part:>8} {:>8} {refused:>6} {:>6} {lost:>6}  {note}", "", "");
        }
    }
    Ok(())
}
