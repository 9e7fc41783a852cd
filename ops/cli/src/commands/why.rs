//! `lucarne why`: what a user would get, and why.

use crate::args::{Output, Why};
use crate::client::{Client, escape};
use crate::output;
use anyhow::Result;
use lucarne_control::api::{Explanation, Pool};

/// Explains one pool in full, or all in a line each.
pub async fn run(args: Why) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let of = async |pool: &str| -> Result<Explanation> {
        let query = format!("user={}&pool={}", escape(&args.user_name), escape(pool));
        Ok(client.get(&format!("/api/v1/explain?{query}")).await?)
    };
    let Some(pool) = &args.pool else {
        let mut all = Vec::new();
        for pool in client.list::<Pool>("/api/v1/pools").await? {
            all.push(of(&pool.name).await?);
        }
        if args.remote.output == Output::Json {
            return output::json(&all);
        }
        all.iter().for_each(|e| println!("{}: {}", e.pool, e.says));
        return Ok(());
    };
    let explained = of(pool).await?;
    if args.remote.output == Output::Json {
        return output::json(&explained);
    }
    print(&explained);
    Ok(())
}

fn print(e: &Explanation) {
    println!("{}\n", e.says);
    for rule in &e.rules {
        println!("  {} {:<12} {}", if rule.passed { "✓" } else { "✗" }, rule.rule, rule.says);
    }
    if !e.hosts.is_empty() {
        println!("\n  Hosts, the preferred first:");
    }
    for host in &e.hosts {
        let sign = match (host.chosen, host.fits) {
            (true, _) => "→",
            (false, true) => "✓",
            (false, false) => "✗",
        };
        println!("  {sign} {:<12} {}", host.host, host.says);
    }
    if e.hosts_total > e.hosts.len() as u64 {
        println!("    … and {} more", e.hosts_total - e.hosts.len() as u64);
    }
    if !e.past.is_empty() {
        println!("\n  Desktops of this pool that {} has had, the newest first:", e.user);
    }
    for past in &e.past {
        let host = past.host.as_deref().unwrap_or("a host that was deleted");
        let why = past.placed.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        println!("    {} {} on {host}{why}", past.name, output::age(past.assigned_at));
        if let Some(ended) = past.ended_at {
            let reason = past.end_reason.as_deref().unwrap_or("no reason is on record");
            println!("      ended {}: {reason}", output::age(ended));
        }
    }
}
