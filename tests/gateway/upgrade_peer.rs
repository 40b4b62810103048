//! Nobody but the user whose gateway it is takes over from it, whatever the file system lets through.

use crate::support::gateway::BINARY;
use crate::support::wait::until;
use crate::support::{Setup, Upstream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `nobody`, on most systems; no user has to have it.
const STRANGER: u32 = 65_534;

/// Gives a folder and everything in it to the stranger.
fn give_away(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("its entries too").path();
        if path.is_dir() {
            give_away(&path);
        }
        chown(&path, Some(STRANGER), Some(STRANGER)).expect("root gives away what it likes");
    }
    chown(folder, Some(STRANGER), Some(STRANGER)).expect("root gives away what it likes");
}

/// What a command of the stranger says; it fails.
fn refused(binary: &Path, folder: &Path, arguments: &[&str]) -> String {
    let command = [&["60", binary.to_str().expect("a plain path")], arguments].concat();
    let mut timeout = Command::new("timeout");
    let told = timeout.args(command).current_dir(folder).uid(STRANGER).gid(STRANGER).output();
    let told = told.expect("it starts");
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned()
}

#[test]
fn another_user_takes_nothing_over_even_where_it_reaches_the_socket() {
    // Only root can be two users.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("upgrade", "{ socket: run/upgrade.sock }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let folder = gateway.folder().path();
    give_away(folder);
    let socket = folder.join("run/upgrade.sock");
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777)).expect("a mode can be set");
    // Where it was built others may not look.
    let binary = folder.join("vestibule");
    std::fs::hard_link(BINARY, &binary)
        .or_else(|_| std::fs::copy(BINARY, &binary).map(drop))
        .expect("there is room for it");

    let taking = refused(&binary, folder, &["run", "--upgrade", "-c", "vestibule.yaml"]);
    assert!(taking.contains("belongs to the user 0"), "its own process has looked as well: {taking}");
    until("the one that serves has refused it", || {
        let refusal = "an upgrade was refused: it runs as another user than the process that serves";
        gateway.everything().iter().any(|line| line.contains(refusal)).then_some(())
    });
    let asking = refused(&binary, folder, &["upgrade", "-c", "vestibule.yaml"]);
    assert!(asking.contains("only this user and root may ask for it"), "{asking}");
    assert!(alice.is_signed_in() && gateway.started() == 1, "everything goes on");
}
