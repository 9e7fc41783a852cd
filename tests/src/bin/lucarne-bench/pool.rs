//! The pool that suites take their desktops from.

use crate::http::Client;
use anyhow::{Context, Result, bail};
use lucarne_control::agent::TemplateState;
use lucarne_control::api::{Image, NewPool, Page, Pool};
use lucarne_control::spec::{ClipboardPolicy, NetworkPolicy, RecordingPolicy};
use lucarne_control::viewer::ShadowPolicy;
use std::time::{Duration, Instant};

/// Its name.
pub const NAME: &str = "bench";

/// How long a template may take: a cold boot without hardware virtualization on a busy machine.
const TEMPLATE_LIMIT: Duration = Duration::from_secs(900);

/// Makes the pool from the newest image, waits for its template, and gives the seconds that its cold boot took.
pub async fn make(admin: &mut Client, clones: u32) -> Result<f64> {
    let images: Page<Image> = admin.get("/api/v1/images").await?;
    let image = images.items.into_iter().max_by_key(|i| i.created_at);
    let image = image.context("there is no image, and no recipe to build one; see --images and --recipe")?;
    let new = NewPool {
        name: NAME.into(),
        description: String::new(),
        image: image.digest.to_string(),
        machine: None,
        network: NetworkPolicy::User,
        shadow: ShadowPolicy::Off,
        shadow_control: false,
        audio: None,
        clipboard: ClipboardPolicy::Both,
        recording: RecordingPolicy::default(),
        kind: Default::default(),
        ready: Default::default(),
        limits: Default::default(),
        power: Default::default(),
        placement: Default::default(),
        home: Default::default(),
        snapshots: Default::default(),
        max_desktops: Some(clones),
        entitled_users: Vec::new(),
        entitled_groups: vec!["everyone".into()],
    };
    let (_, _): (_, Pool) = admin.post("/api/v1/pools", &new).await?;
    let began = Instant::now();
    let mut said = String::new();
    while began.elapsed() < TEMPLATE_LIMIT {
        let pool: Pool = admin.get(&format!("/api/v1/pools/{NAME}")).await?;
        if let Some(template) = pool.templates.into_iter().next().map(|t| t.template) {
            match template.state {
                TemplateState::Ready => {
                    return template.cold_boot_s.context("the template does not say how long its boot took");
                }
                TemplateState::Failed => bail!("the template could not be made: {}", template.detail),
                TemplateState::Building if template.detail != said => {
                    eprintln!("Template: {}", template.detail);
                    said = template.detail;
                }
                TemplateState::Building => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    bail!("the template was not ready within {} s", TEMPLATE_LIMIT.as_secs())
}
