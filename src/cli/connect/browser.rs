//! Opens a page in the browser of whoever sits there.

use std::process::Stdio;

use tokio::process::Command;

/// What opens a URL on this system.
#[cfg(target_os = "macos")]
const OPENERS: [&str; 1] = ["open"];
#[cfg(not(target_os = "macos"))]
const OPENERS: [&str; 3] = ["xdg-open", "wslview", "gio"];

/// Hands a URL to the browser, by the first program that is there. No shell reads it, and nobody waits
/// for it; where it cannot be opened the printed address is enough.
pub(super) fn open(url: &str) {
    // A program of this kind takes anything else for a file, or for an option.
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return;
    }
    for opener in OPENERS {
        let mut command = Command::new(opener);
        if opener == "gio" {
            command.arg("open");
        }
        command
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Ok(mut child) = command.spawn() {
            tokio::spawn(async move { child.wait().await });
            return;
        }
    }
}
