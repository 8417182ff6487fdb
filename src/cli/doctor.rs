//! `pleiades doctor`: every step on the way to a provider, each with its cure.
//!
//! Steps run in the order of a request. One that makes no sense after a failure is skipped and says
//! so. Nothing that is a credential is printed: see [`step::Redactor`].

mod gateway;
mod network;
mod oauth;
mod program;
mod protocol;
mod source;
mod step;
mod subject;

use std::time::{Duration, Instant};

use super::provider_access::ProviderChoice;
use super::{Global, exit, ui};
use crate::app::{App, LoadScope};
use gateway::ProviderReport;
use oauth::LoginOptions;
use pleiades_core::error::Code;
use pleiades_core::telemetry::{self, tail::Tail};
use pleiades_descriptor::ReadContext;
use source::DescriptorSource;
use step::{StepFailure, Steps};
use subject::Subject;

/// Grace for child processes.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) fn run(global: &Global, choice: &ProviderChoice, refresh: bool) -> Result<u8, u8> {
    let provider = &*choice.provider;
    let tail = Tail::default();
    telemetry::log::init_quiet(tail.clone());
    // Nothing is started but what is asked for; accounts are looked at as a server would use them.
    let (settings, running) = super::beside_gateway(global)?;
    let report = running.and_then(|gateway| ProviderReport::ask(&gateway, provider));
    let app = super::build(settings, LoadScope::Login(provider.to_owned()))?;
    if !refresh {
        app.services().exchange.accounts.manager.report_only();
    }
    let world = app.world().clone();
    let source = DescriptorSource::find(&app.settings().providers, provider, &world);
    let login = LoginOptions {
        account: choice.account.clone(),
        refresh,
        program: super::invocation::as_typed(global),
    };
    let code = source.map(|source| {
        let subject = (provider, &world, tail);
        examined(global, &app, (source, report.as_ref()), subject, login)
    });
    app.stop(FAREWELL);
    code
}

fn examined(
    global: &Global,
    app: &App,
    (mut source, running): (DescriptorSource, Option<&ProviderReport>),
    (provider, world, tail): (&str, &ReadContext, Tail),
    login: LoginOptions,
) -> u8 {
    let began = Instant::now();
    let file = source.file();
    let mut steps = Steps::new(global.json, source.redactor(world));
    let descriptor = source.check(&mut steps, began, running);
    let examining = async {
        let Some(descriptor) = descriptor else {
            if let Some(running) = running.filter(|it| it.is_served()) {
                running.examine(&mut steps, true);
            }
            steps.skip("upstream", "the descriptor cannot be used");
            return;
        };
        if let Some(running) = running {
            running.examine(&mut steps, false);
        }
        let subject = match Subject::new(app, &file, descriptor, world, tail) {
            Ok(subject) => subject,
            Err(why) => {
                let cure = format!("`pleiades check {}` may say more", file.display());
                steps.end(
                    "upstream",
                    Instant::now(),
                    Err(StepFailure::new(Code::UnknownProvider, why, cure)),
                );
                return;
            }
        };
        subject.examine(app, &mut steps, login).await;
    };
    if super::until_signal(app, examining).is_none() {
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
