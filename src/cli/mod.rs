//! The command line: one file per command.
//!
//! Exit codes: 0 done, 1 failed, 2 bad arguments or a bad file. What a command found goes to standard output, what
//! went wrong to standard error.

pub mod check;
mod demo;
mod explain;
mod keys;
mod offline;
mod password;
mod run;
mod schema;
mod sessions;
mod tokens;
mod upgrade;

use crate::domain::time;
use clap::{Args, Parser, Subcommand};
use http::Method;
use std::path::PathBuf;
use std::process::ExitCode;

/// A reverse proxy session gateway: sign-in, sessions and logout in front of applications that have none.
#[derive(Debug, Parser)]
#[command(
    name = "vestibule",
    version,
    max_term_width = 100,
    after_help = "Start here:\n  \
        vestibule demo                        a gateway, an application and two users, ready to try\n  \
        vestibule check -c vestibule.yaml     what is wrong with a file, or who may go where\n  \
        vestibule run -c vestibule.yaml       serve\n\n\
        Exit codes: 0 done, 1 failed, 2 bad arguments or a bad file."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what the file says, until SIGTERM
    #[command(
        after_help = "SIGHUP, or a change of the file, puts a new configuration in force; one with problems \
        changes nothing.\nSIGTERM finishes what runs and ends; at once when nothing does.\n\n\
        Example:\n  vestibule run -c /etc/vestibule/vestibule.yaml"
    )]
    Run(RunArgs),
    /// Replace the running gateway by a new process of the program that is installed now, without a closed connection
    #[command(
        after_help = "The running gateway starts the new process, which loads the file, takes over listeners and sessions, \
        and serves.\nThe old one finishes what runs, and ends. If anything goes wrong it goes on as it was.\n\
        The file needs `upgrade: { socket: … }`, and the gateway to have been started with that.\n\n\
        Examples:\n  \
        vestibule upgrade -c vestibule.yaml\n  \
        vestibule upgrade --socket /run/vestibule/upgrade.sock"
    )]
    Upgrade(UpgradeArgs),
    /// Serve a demonstration: gateway, small application and two users; nothing else is needed
    #[command(after_help = "Examples:\n  \
        vestibule demo                        everything in a folder that is removed at the end\n  \
        vestibule demo --folder trial         keep the commented files, to start from them")]
    Demo(DemoArgs),
    /// Print every problem of a file, or who may go where
    #[command(after_help = "Nothing is started or changed, so it is safe beside a running gateway.\n\n\
        Examples:\n  vestibule check -c vestibule.yaml && systemctl reload vestibule\n  \
        vestibule check --print -c vestibule.yaml >everything.yaml")]
    Check(CheckArgs),
    /// Say which route and rule a request falls on, what is decided, and why
    #[command(after_help = "Without --subject or --token the request brings no credential.\n\
        With --live a running gateway says it of what it has in force, which is not the file where that was refused.\n\n\
        Examples:\n  \
        vestibule explain -c vestibule.yaml GET https://wiki.example.com/admin\n  \
        vestibule explain -c vestibule.yaml GET https://wiki.example.com/admin --subject alice --groups ops,dev\n  \
        vestibule explain -c vestibule.yaml GET https://wiki.example.com/api --token - <token.txt\n  \
        vestibule explain -c vestibule.yaml GET https://wiki.example.com/admin --subject alice --client-certificate alice.crt\n  \
        vestibule explain --live -c vestibule.yaml GET https://wiki.example.com/admin --subject alice")]
    Explain(ExplainArgs),
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = "Example:\n  vestibule schema >vestibule.schema.json\n\n\
        and as the first line of vestibule.yaml:\n  # yaml-language-server: $schema=vestibule.schema.json")]
    Schema,
    /// Make keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Make password hashes
    #[command(subcommand)]
    Password(PasswordCommand),
    /// List, show and end sessions of a running gateway, through its admin address
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Revoke bearer tokens at a running gateway, through its admin address
    #[command(subcommand)]
    Tokens(TokensCommand),
}

/// The file a command works on.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration; relative paths in it start at its folder
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the file with every default filled in, and no secret, instead of the table
    #[arg(long)]
    print: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take over from the process that serves, by the file's `upgrade.socket`; `vestibule upgrade` has that one start it
    #[arg(long)]
    upgrade: bool,
}

#[derive(Debug, Args)]
struct UpgradeArgs {
    /// The configuration, which names the socket; it is checked first
    #[arg(short, long, value_name = "FILE", conflicts_with = "socket", required_unless_present = "socket")]
    config: Option<PathBuf>,
    /// The socket of `upgrade.socket`
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Write the demonstration's files here and keep them; a folder that holds some is used as it is
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where the gateway listens on this machine; by default 8080
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Ask the running gateway, through its admin address
    #[arg(long, conflicts_with = "token")]
    live: bool,
    /// The request's method
    #[arg(value_name = "METHOD")]
    method: Method,
    /// The address as a browser sees it
    #[arg(value_name = "URL")]
    url: String,
    /// Suppose a session of this subject
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    subject: Option<String>,
    /// Its groups, separated by commas
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', requires = "subject")]
    groups: Vec<String>,
    /// Its e-mail address
    #[arg(long, value_name = "ADDRESS", requires = "subject")]
    email: Option<String>,
    /// The way or token entry that it comes from; by default one that the route takes
    #[arg(long, value_name = "SOURCE", requires = "subject")]
    source: Option<String>,
    /// Another claim, `NAME=VALUE`; several times for several
    #[arg(long = "claim", value_name = "CLAIM", value_parser = claim, requires = "subject")]
    claims: Vec<(String, String)>,
    /// Suppose this bearer token; only `-`, which reads it from standard input: arguments are seen by everybody
    #[arg(long, value_name = "-", value_parser = ["-"])]
    token: Option<String>,
    /// Suppose that the client shows this certificate: PEM, its own first, then its issuers
    #[arg(long, value_name = "FILE")]
    client_certificate: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print a new key: 32 random bytes in base64
    #[command(after_help = "Example, with an older key that keeps the living sessions:\n  \
        umask 077; vestibule keys generate >keys/2026-11.key\n\n  \
        keys: [{ file: keys/2026-11.key }, { file: keys/2026-05.key }]   # newest first")]
    Generate {
        /// A private key for `identity.assertion` instead, in PEM: `es256` (P-256; where nothing is said) or `eddsa` (Ed25519)
        #[arg(long, value_name = "ALGORITHM", num_args = 0..=1, require_equals = true, default_missing_value = "es256",
              value_parser = ["es256", "eddsa"])]
        assertion: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum PasswordCommand {
    /// Ask for a password, or read one line of standard input, and print its hash alone
    #[command(after_help = "The line is for users.yaml:\n  \
        alice:\n    password: $argon2id$…\n\n\
        Example for a script:\n  pass show wiki/alice | vestibule password hash")]
    Hash,
}

/// `NAME=VALUE`, of a claim that has no option of its own.
fn claim(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some(("subject" | "source" | "email" | "groups", _)) => Err("this claim has an option of its own"),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write `NAME=VALUE`"),
    }
}

/// Which admin address, and the token for it.
#[derive(Debug, Args)]
struct AdminArgs {
    /// The configuration, which also names the admin address and its token
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// The admin address, `127.0.0.1:9901` or `unix:/run/vestibule/admin.sock`
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// A file that holds the admin token
    #[arg(long, value_name = "FILE", requires = "admin", conflicts_with = "config")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// List live sessions
    #[command(after_help = "Examples:\n  \
        vestibule sessions list -c vestibule.yaml --subject alice\n  \
        vestibule sessions list -c vestibule.yaml --client 10.0.0.0/8 --idle-for 2h\n  \
        vestibule sessions list --admin unix:/run/vestibule/admin.sock --json")]
    List(ListArgs),
    /// Show one session
    Show(ShowArgs),
    /// End one session, or all that the filters name
    #[command(after_help = "Filters that stand together must all hold. At least one must be there.\n\n\
        Examples:\n  \
        vestibule sessions end -c vestibule.yaml AQEBAQEBAQEBAQEBAQEBAQ\n  \
        vestibule sessions end -c vestibule.yaml --subject alice --source local\n  \
        vestibule sessions end -c vestibule.yaml --opened-before 2026-11-22T08:00:00Z\n\n\
        In a file that no gateway uses, such as a backup that was restored:\n  \
        vestibule sessions end --offline -c vestibule.yaml --opened-before 2026-11-22T08:00:00Z")]
    End(EndArgs),
}

/// Which sessions are meant.
#[derive(Debug, Default, Args)]
#[group(id = "filters", multiple = true)]
struct FilterArgs {
    /// Only this subject's
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only from this source: a way's name or an issuer
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Only those opened by this way to sign in
    #[arg(long, value_name = "NAME")]
    sign_in: Option<String>,
    /// Only those opened from this address or network
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    client: Option<String>,
    /// Only those not used for at least so long: `30m`, `12h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = span)]
    idle_for: Option<String>,
    /// Only those opened before this instant: `2026-11-22T08:00:00Z`
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    opened_before: Option<String>,
    /// Those of visitors who have not signed in, instead of those who have
    #[arg(long)]
    anonymous: bool,
}

/// The text, if the door will understand it.
fn network(text: &str) -> Result<String, String> {
    let good = text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok();
    if good {
        Ok(text.to_owned())
    } else {
        Err("write an address or a network: `10.0.0.7`, `10.0.0.0/8`".into())
    }
}

fn span(text: &str) -> Result<String, &'static str> {
    time::span(text).map(|_| text.to_owned()).ok_or("write digits and a unit: `30m`, `12h`, `7d`")
}

fn instant(text: &str) -> Result<String, time::NotAnInstant> {
    text.parse::<time::Timestamp>().map(|_| text.to_owned())
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    filters: FilterArgs,
    /// Show at most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 500)]
    limit: usize,
    /// Print JSON, one object a session, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The session's public id, as the list and the logs show it
    // One in 64 begins with a hyphen.
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EndArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The session's public id, as the list and the logs show it
    #[arg(
        value_name = "ID",
        allow_hyphen_values = true,
        conflicts_with = "filters",
        required_unless_present = "filters"
    )]
    id: Option<String>,
    #[command(flatten)]
    filters: FilterArgs,
    /// Write into the file of `sessions.store` while no gateway runs; with --opened-before, and --subject if you like
    #[arg(
        long,
        requires = "opened_before",
        conflicts_with_all = ["id", "admin", "sign_in", "client", "idle_for", "anonymous"]
    )]
    offline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Revoke one token by its `jti`, those of a subject, or all of an issuer that are older than an instant
    #[command(
        after_help = "In force at once, also for running requests, and for sessions that such tokens were traded for.\n\n\
        Examples:\n  \
        vestibule tokens revoke -c vestibule.yaml --jti 4f1d2c\n  \
        vestibule tokens revoke -c vestibule.yaml --subject alice --source https://id.example.com\n  \
        vestibule tokens revoke -c vestibule.yaml --issued-before 2026-11-22T08:00:00Z"
    )]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct RevokeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Of this issuer; may be left out where `tokens` have one
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// The token of this `jti`
    #[arg(
        long,
        value_name = "JTI",
        conflicts_with_all = ["subject", "issued_before"],
        required_unless_present_any = ["subject", "issued_before"]
    )]
    jti: Option<String>,
    /// Those of this subject, issued before now or before --issued-before
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Those issued before this instant: `2026-11-22T08:00:00Z`
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    issued_before: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Exit code 1: the arguments were fine, the world was not.
    #[error("{0}")]
    Failed(String),
    /// Exit code 2: the arguments or a file need another hand.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    fn failed(cause: impl std::fmt::Display) -> Self {
        Self::Failed(cause.to_string())
    }

    fn refused(cause: impl std::fmt::Display) -> Self {
        Self::Refused(cause.to_string())
    }

    fn code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Refused(_) => ExitCode::from(2),
        }
    }
}

/// Reads the arguments, does what they say.
pub fn main() -> ExitCode {
    // Prints help, version and complaints itself, and leaves with 0 or 2.
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.code()
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Upgrade(args) => upgrade::upgrade(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain_request(&args),
        Command::Schema => schema::schema(),
        Command::Keys(KeysCommand::Generate { assertion }) => keys::generate(assertion.as_deref()),
        Command::Password(PasswordCommand::Hash) => password::hash(),
        Command::Sessions(command) => sessions::sessions(&command),
        Command::Tokens(command) => tokens::tokens(&command),
    }
}

/// Prints to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output cannot be written: {cause}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Parses a line; the exit code that clap would leave with where it does not.
    fn parse(line: &str) -> Result<Command, i32> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).map_err(|error| error.exit_code())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_that_do_not_say_enough_or_too_much_leave_with_2() {
        for line in [
            "vestibule",
            "vestibule run",
            "vestibule check",
            "vestibule explain -c f GET",
            "vestibule explain -c f G@T https://x/",
            "vestibule explain -c f GET https://x/ --groups ops",
            "vestibule explain GET https://x/",
            "vestibule explain --live -c f GET https://x/ --token -",
            "vestibule explain -c f GET https://x/ --subject alice --claim level",
            "vestibule explain -c f GET https://x/ --subject alice --claim groups=ops",
            "vestibule explain -c f GET https://x/ --token eyJ",
            "vestibule explain -c f GET https://x/ --token - --subject alice",
            "vestibule demo --port 70000",
            "vestibule sessions list",
            "vestibule sessions list -c f --admin 127.0.0.1:1",
            "vestibule sessions list -c f --token-file t",
            "vestibule sessions end -c f",
            "vestibule sessions end -c f id --subject alice",
            "vestibule sessions end -c f id --anonymous",
            "vestibule sessions list -c f --client example.com",
            "vestibule sessions list -c f --idle-for 2",
            "vestibule sessions end -c f --opened-before yesterday",
            "vestibule keys",
            "vestibule keys generate --assertion=rs256",
            "vestibule walk",
        ] {
            assert_eq!(parse(line).err(), Some(2), "{line}");
        }
    }

    #[test]
    fn lines_of_the_help_texts_parse() {
        for line in [
            "vestibule run -c /etc/vestibule/vestibule.yaml",
            "vestibule demo",
            "vestibule demo --folder trial --port 8081",
            "vestibule check --config vestibule.yaml",
            "vestibule check --print -c vestibule.yaml",
            "vestibule schema",
            "vestibule keys generate",
            "vestibule keys generate --assertion",
            "vestibule keys generate --assertion=eddsa",
            "vestibule password hash",
            "vestibule explain -c f GET https://wiki.example.com/api --token -",
            "vestibule explain --live -c f GET https://wiki.example.com/admin --subject alice --claim level=3",
            "vestibule explain --live --admin unix:admin.sock GET https://wiki.example.com/admin",
            "vestibule sessions list -c vestibule.yaml --subject alice",
            "vestibule sessions list --admin unix:/run/vestibule/admin.sock --json",
            "vestibule sessions show --admin 127.0.0.1:9901 --token-file admin.token AQEBAQEBAQEBAQEBAQEBAQ",
            "vestibule sessions list -c vestibule.yaml --client 10.0.0.0/8 --idle-for 2h",
            "vestibule sessions list -c vestibule.yaml --client 2001:db8::1 --anonymous",
            "vestibule sessions end -c vestibule.yaml --subject alice --source local",
            "vestibule sessions end -c vestibule.yaml --opened-before 2026-11-22T08:00:00Z",
            "vestibule sessions end -c vestibule.yaml --anonymous",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        let explain = parse("vestibule explain -c f get https://x/ --subject alice --groups ops,dev");
        let Ok(Command::Explain(args)) = explain else { panic!("{explain:?}") };
        assert_eq!(args.groups, ["ops", "dev"]);
    }

    #[test]
    fn help_and_version_are_no_failure() {
        for line in ["vestibule --help", "vestibule --version", "vestibule sessions end --help"] {
            assert_eq!(parse(line).err(), Some(0), "{line}");
        }
    }
}
