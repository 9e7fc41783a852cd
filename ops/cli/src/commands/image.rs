//! `lucarne image`: building and importing work on this machine's store; listing and deleting on the deployment.

use crate::args::{Image, ImageCommand};
use crate::client::{Client, escape};
use crate::output::{self, Row};
use crate::progress::Progress;
use anyhow::{Context, Result};
use lucarne_control::api;
use lucarne_control::spec::ImageInfo;
use lucarne_images::{BuildOptions, Cancel, Recipe, Store};
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

impl Row for api::Image {
    const TITLES: &'static [&'static str] = &["DIGEST", "NAME", "VERSION", "SIZE", "STORED", "MADE", "ON"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.digest.short().into(),
            self.name.clone(),
            self.version.clone(),
            output::size(self.virtual_size),
            output::size(self.stored_size),
            output::age(self.created_at),
            self.hosts.join(", "),
        ]
    }
}

/// Runs the command.
pub async fn run(args: Image) -> Result<()> {
    let output = args.remote.output;
    match args.command {
        ImageCommand::Build { recipe, force } => {
            let image = build(&args.remote.data_dir, &recipe, force).await?;
            output::show(&image, output)
        }
        ImageCommand::Import { .. } => crate::commands::import::run(args).await,
        ImageCommand::List => {
            let client = Client::open(&args.remote).await?;
            output::list(&client.list::<api::Image>("/api/v1/images").await?, output)
        }
        ImageCommand::Show { image } => {
            let client = Client::open(&args.remote).await?;
            output::show(&client.get::<api::Image>(&path(&image)).await?, output)
        }
        ImageCommand::Delete { image } => Ok(Client::open(&args.remote).await?.delete(&path(&image)).await?),
    }
}

fn path(image: &str) -> String {
    format!("/api/v1/images/{}", escape(image))
}

/// This machine's image store.
pub fn open_store(data_dir: &Path) -> Result<Store> {
    let dir = std::path::absolute(data_dir)?.join("host").join("images");
    Store::open(&dir).with_context(|| format!("the image store {} cannot be opened", dir.display()))
}

/// Cancels when the user presses Ctrl-C or the process is told to end, so that nothing half-made is left.
pub fn cancel_on_signals() -> Result<Cancel> {
    let cancel = Cancel::default();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let asked = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.cancel();
    });
    Ok(cancel)
}

/// Builds the recipe's image unless it is there.
pub async fn build(data_dir: &Path, recipe: &Path, force: bool) -> Result<ImageInfo> {
    let recipe = Recipe::read(recipe)?;
    let store = open_store(data_dir)?;
    let options = BuildOptions { force, log_dir: None, cancel: cancel_on_signals()? };
    let work = move || {
        let mut shown = Progress::new("Golden image");
        let mut report = |p: lucarne_images::Progress| shown.set(p.percent, &p.message);
        let built = lucarne_images::build(&recipe, &store, &options, &mut report);
        match &built {
            Ok(image) => shown.done(&format!("{} {} ({})", image.name, image.version, image.digest.short())),
            Err(_) => shown.failed(),
        }
        built
    };
    tokio::task::spawn_blocking(work).await?.context("the golden image could not be built")
}
