//! `lucarne export`: the file of pools that says what there is.

use crate::args::{Export, Output};
use crate::client::Client;
use crate::{output, pools_file};
use anyhow::{Context, Result};
use lucarne_control::api::{Image, Pool};
use std::io::Write;
use std::path::Path;

/// Writes all pools, so that applying them changes nothing.
pub async fn run(args: Export) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let pools: Vec<Pool> = client.list("/api/v1/pools").await?;
    if args.remote.output == Output::Json {
        return output::json(&pools);
    }
    let images: Vec<Image> = client.list("/api/v1/images").await?;
    let text = pools_file::write(&pools, &images);
    if args.file == Path::new("-") {
        return Ok(std::io::stdout().write_all(text.as_bytes())?);
    }
    std::fs::write(&args.file, text).with_context(|| format!("{} cannot be written", args.file.display()))
}
