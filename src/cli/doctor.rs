//! `pleiades doctor`: every step on the way to a provider, each with its cure.
//!
//! Steps run in the order of a request. One that makes no sense after a failure is skipped and says
//! so. Nothing that is a credential is printed: see [`step::Veil`].

mod network;
mod oauth;
mod patient;
mod program;
mod protocol;
mod source;
mod step;

use std::time::{Duration, Instant};

use super::{Global, exit, ui};
use crate::app::{App, Load};
use crate::descriptor::World;
use crate::settings::Overrides;
use crate::telemetry::{self, tail::Tail};
use patient::Patient;
use source::Source;
use step::{Steps, Trouble};

/// What children get to end by themselves.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) fn run(global: &Global, provider: &str, refresh: bool) -> u8 {
    let overrides = Overrides {
        providers: global.providers.clone(),
        ..Overrides::default()
    };
    let tail = Tail::default();
    telemetry::log::init_quiet(tail.clone());
    // Nothing is started but what is asked for; accounts are looked at as a server would use them.
    let app = match super::open_with(global, &overrides, Load::Login(provider.to_owned())) {
        Ok(app) => app,
        Err(code) => return code,
    };
    let world = app.world().clone();
    let source = Source::find(&app.settings().providers, provider, &world);
    let code = match source {
        Ok(source) => examined(global, &app, source, (provider, &world, tail), refresh),
        Err(code) => code,
    };
    app.stop(FAREWELL);
    code
}

fn examined(
    global: &Global,
    app: &App,
    mut source: Source,
    (provider, world, tail): (&str, &World, Tail),
    refresh: bool,
) -> u8 {
    let began = Instant::now();
    let file = source.file();
    let mut steps = Steps::new(global.json, source.veil(world));
    let descriptor = source.check(&mut steps, began);
    let examining = async {
        let Some(descriptor) = descriptor else {
            steps.skip("upstream", "the descriptor cannot be used");
            return;
        };
        let patient = match Patient::admit(app, &file, descriptor, world, tail) {
            Ok(patient) => patient,
            Err(why) => {
                let cure = format!("`pleiades check {}` may say more", file.display());
                steps.end("upstream", Instant::now(), Err(Trouble::new(why, cure)));
                return;
            }
        };
        patient.examine(app, &mut steps, refresh).await;
    };
    if super::until_told(app, examining).is_none() {
        ui::fail("interrupted");
        return exit::TEMPORARY;
    }
    let code = if steps.is_well() {
        exit::OK
    } else {
        exit::UNAVAILABLE
    };
    if global.json {
        ui::out(steps.report(provider, &file.to_string_lossy()));
    }
    code
}
