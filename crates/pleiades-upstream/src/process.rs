//! A provider that is a child process: newline-delimited JSON-RPC, many requests at once.
//!
//! Its tasks live on the control runtime. Whatever ends it ends its whole process group.

use std::{ffi::OsString, process::Stdio, sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::{process::Command, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    pool::PoolKey,
    program,
    shared::Shared,
    wire::{Wire, WireReader, WireState, WireWriter},
};
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;

mod pipes;
mod supervisor;

use pipes::{log, read, write};
use supervisor::Supervisor;

/// Lines waiting to be written.
const QUEUE: usize = 64;
/// A process that lived this long died of something new.
const SOUND: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a [String],
    pub(crate) env: &'a [(String, Secret)],
    pub(crate) folder: &'a std::path::Path,
}

/// Starts a program in a group and an environment of its own.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    provider: &Arc<str>,
    key: &PoolKey,
    program: &Program<'_>,
) -> Result<Arc<Wire>, Error> {
    // The child and its pipes are driven by the runtime that is current here.
    let _control = shared.control.enter();
    let mut child = command(program, &shared.environment)?.spawn().map_err(|error| {
        let message = "the provider's command could not be started; check `upstream.command`";
        // Arguments may be secret.
        let name = program.command.first().map_or("", String::as_str);
        Error::new(Code::UpstreamUnreachable, message).because(format!("{name}: {error}"))
    })?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Error::new(Code::Internal, "a child process has no pipes"));
    };
    let (lines, queue) = mpsc::channel(QUEUE);
    let state = WireState::new(shared, provider, key, SOUND);
    let wire = Arc::new(Wire::new(Arc::clone(&state), WireWriter::Pipe(lines)));
    let reader = WireReader {
        state: Arc::clone(&state),
        wire: Arc::downgrade(&wire),
    };
    // A descendant in a group of its own keeps the pipes open, for as long as it likes.
    let gone = CancellationToken::new();
    let until_gone = gone.clone();
    let reading = read(stdout, reader);
    let secrets = program.env.iter().map(|(_, value)| value.clone());
    state.secrets.get_or_init(|| secrets.collect());
    let logging = log(stderr, Arc::clone(&state));
    shared.control.spawn(write(stdin, queue, state.stop.clone()));
    shared
        .control
        .spawn(async move { until_gone.run_until_cancelled(join(reading, logging)).await });
    let supervisor = Supervisor {
        state,
        kill: shared.killing.clone(),
        gone: gone.drop_guard(),
    };
    shared.children.spawn_on(supervisor.run(child), &shared.control);
    Ok(wire)
}

fn command(program: &Program<'_>, minimal: &[(OsString, OsString)]) -> Result<Command, Error> {
    let Some((name, arguments)) = program.command.split_first() else {
        return Err(Error::new(Code::Internal, "the provider's command is empty"));
    };
    let file = program::resolve(name).map_err(|error| {
        let message = "the gateway cannot find its own program, which `upstream.command` names";
        Error::new(Code::UpstreamUnreachable, message).because(error)
    })?;
    let mut command = Command::new(&*file);
    command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(minimal.iter().map(|(name, value)| (name, value)))
        .envs(program.env.iter().map(|(name, value)| (name, value.expose())))
        .current_dir(program.folder)
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}
