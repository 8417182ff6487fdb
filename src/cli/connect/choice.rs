//! The question which account calls use that name none, once a further one is connected.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::app::App;
use crate::cli::accounts::fail_store;
use crate::cli::ui::{self, BOLD, DIM};
use pleiades_core::text::shell_word;
use pleiades_credential::manager::{Account, DefaultQuestion};
use pleiades_credential::{AccountKey, Connection, user_accounts};

/// How long somebody at the terminal may take; then everything stays as it is.
const ANSWER: Duration = Duration::from_secs(600);
/// How often the question is put to somebody who types something else.
const TRIES: u32 = 3;

/// What may be typed: a number, for an account or for none.
type DefaultOption<'a> = Option<&'a Arc<str>>;

/// The accounts of this user at a connection; none where they cannot be read, so that nothing is asked.
pub(super) async fn accounts(app: &App, connection: &Connection) -> Vec<Account> {
    let services = app.services();
    let manager = &services.exchange.accounts.manager;
    let owner = user_accounts::owner(manager, &services.principal, &connection.provider);
    manager.accounts(&owner).await.unwrap_or_default()
}

/// Asks, where somebody is there to be asked, and keeps the answer; then says what calls use. Whether
/// anything was changed.
pub(super) async fn make(
    app: &App,
    connection: &Connection,
    question: &DefaultQuestion,
    may_ask: bool,
) -> Result<bool, u8> {
    let used = question.used.as_ref();
    let choices: Vec<DefaultOption<'_>> = match used {
        Some(used) => vec![Some(used), Some(&question.new), None],
        None => vec![Some(&question.new), None],
    };
    let is_there = may_ask && std::io::stdin().is_terminal() && ui::is_person();
    let Some(choice) = (if is_there {
        ask(connection, used, &choices).await
    } else {
        None
    }) else {
        report(used);
        let (provider, new) = (&connection.provider, &question.new);
        ui::err(format_args!(
            "`pleiades accounts default {provider} {}` makes them use `{new}`.",
            shell_word(new)
        ));
        return Ok(false);
    };
    let services = app.services();
    let manager = &services.exchange.accounts.manager;
    let owner = user_accounts::owner(manager, &services.principal, &connection.provider);
    let chosen = match choice {
        Some(account) => {
            let account = Arc::clone(account);
            manager.choose(&AccountKey { owner, account }).await
        }
        None => manager.choose_none(&owner).await,
    };
    let chosen = chosen.map_err(fail_store)?;
    match chosen {
        true => report(choice),
        false => ui::err("That account is not connected any more, so nothing was changed."),
    }
    Ok(chosen)
}

/// The choice of somebody at the terminal; `None`: everything stays as it is.
async fn ask<'a>(
    connection: &Connection,
    used: DefaultOption<'_>,
    choices: &[DefaultOption<'a>],
) -> Option<DefaultOption<'a>> {
    ui::err(format_args!(
        "Which account of {} should calls use when they name none?",
        connection.title
    ));
    for (at, choice) in choices.iter().enumerate() {
        let name = choice.map_or("none: each call has to name one", |it| it);
        let note = if *choice == used { "  as it is now" } else { "" };
        ui::err(format_args!(
            "  {BOLD}{}{BOLD:#}  {name}{DIM}{note}{DIM:#}",
            at + 1
        ));
    }
    for _ in 0..TRIES {
        ui::ask(format_args!("A number (Enter: as it is): "));
        let line = timeout(ANSWER, typed()).await.ok()??;
        match parse(&line, choices) {
            Ok(choice) => return choice,
            Err(()) => ui::err(format_args!("Type a number from 1 to {}.", choices.len())),
        }
    }
    None
}

/// A typed line: nothing leaves everything as it is.
fn parse<'a>(line: &str, choices: &[DefaultOption<'a>]) -> Result<Option<DefaultOption<'a>>, ()> {
    match line.trim() {
        "" => Ok(None),
        number => {
            let at: usize = number.parse().map_err(|_no_number| ())?;
            let choice = at.checked_sub(1).and_then(|at| choices.get(at));
            choice.map(|choice| Some(*choice)).ok_or(())
        }
    }
}

/// A line of stdin. Its thread is given up with the process: a read of a terminal ends with a line alone.
async fn typed() -> Option<String> {
    let (send, line) = oneshot::channel();
    let reading = std::thread::Builder::new().name("answer".to_owned());
    reading
        .spawn(move || {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            send.send(read.ok().filter(|read| *read > 0).map(|_| line)).ok();
        })
        .ok()?;
    line.await.ok()?
}

fn report(used: DefaultOption<'_>) {
    match used {
        Some(used) => ui::err(format_args!("Calls that name no account use `{used}`.")),
        None => ui::err("No account is the default: each call has to name one."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_chooses_nothing_leaves_it_and_anything_else_is_asked_again() {
        let (work, home): (Arc<str>, Arc<str>) = ("work".into(), "home".into());
        let choices = [Some(&work), Some(&home), None];
        assert_eq!(parse("\n", &choices), Ok(None));
        assert_eq!(parse(" 2\n", &choices), Ok(Some(Some(&home))));
        assert_eq!(parse("3", &choices), Ok(Some(None)));
        for wrong in ["0", "4", "home", "-1", "99999999999999999999"] {
            assert_eq!(parse(wrong, &choices), Err(()), "{wrong}");
        }
    }
}
