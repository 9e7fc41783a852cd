//! Builds a recipe into a store: `build RECIPE STORE [--force]`; prints the digest.

use lucarne_images::{BuildOptions, Recipe, Store, build};
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(recipe), Some(store)) = (args.first(), args.get(1)) else {
        anyhow::bail!("usage: build RECIPE STORE [--force]");
    };
    let recipe = Recipe::read(Path::new(recipe))?;
    let store = Store::open(store)?;
    let options = BuildOptions { force: args.iter().any(|arg| arg == "--force"), ..BuildOptions::default() };
    let mut last = String::new();
    let image = build(&recipe, &store, &options, &mut |step| {
        let line = format!("{:3}% {}: {}", step.percent, step.phase.as_str(), step.message);
        if line != last {
            eprintln!("{line}");
            last = line;
        }
    })?;
    println!("{}", image.digest);
    Ok(())
}
