//! Our own server: built, configured with users of the benchmark, started.

use crate::cpu::Server;
use crate::digest::Algorithm;
use crate::sipload::{Cast, Generator};
use crate::udp;
use model::entity::{Brand, Client, Extension, ExtensionRoute, RejectionMethod, Secret, Terminal, User};
use model::{Configuration, Id};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Builds the release binary that is measured, unless `CARILLON_BIN` names one; where it is.
pub(crate) fn build() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARILLON_BIN") {
        return Ok(PathBuf::from(path));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "-q", "-p", "carillon"]).status()?;
    if !status.success() {
        return Err(io::Error::other(
            "carillon does not build; run the benchmark by cargo within the workspace",
        ));
    }
    Ok(std::env::current_exe()?.with_file_name("carillon"))
}

/// Starts it with a generator around it. Calls are not challenged, as the peer's are not; registrations are, with this
/// algorithm.
pub(crate) fn start(
    program: &Path,
    users: u32,
    algorithm: Algorithm,
    directory: &Path,
) -> io::Result<(Server, Generator)> {
    let port = udp::free_port()?;
    let cast = Cast {
        servers: vec![([127, 0, 0, 1], port).into()],
        domain: "bench.example".to_owned(),
        users,
        first_extension: 1000,
        secret: "bench-secret".to_owned(),
    };
    let (data, people, file) =
        (directory.join("data"), directory.join("users.toml"), directory.join("carillon.toml"));
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(&data)?;
    let text = toml::to_string(&configuration(&cast)?).map_err(io::Error::other)?;
    std::fs::write(&people, text)?;
    let algorithm = algorithm.token();
    let config = format!(
        "[node]\ndata = {data:?}\n\n[sip]\nlisten = [\"udp:127.0.0.1:{port}\", \"tcp:127.0.0.1:{port}\"]\n\n\
         [media]\naddress = \"127.0.0.1\"\nports = \"10000-64999\"\nsilence_seconds = 3600\n\n[limits]\nmax_calls = 50000\n\n\
         [auth]\ninvite = false\nalgorithms = [{algorithm:?}]\n\n[users]\nfile = {people:?}\n\n[log]\nfilter = \"warn\"\n"
    );
    std::fs::write(&file, config)?;
    let mut generator = Generator::new(cast)?;
    let arguments = ["serve".to_owned(), "--config".to_owned(), file.display().to_string()];
    let mut server = Server::start(program, &arguments, directory)?;
    let ready = generator.wait_for_answer(Duration::from_secs(10));
    server.check()?;
    ready?;
    Ok((server, generator))
}

/// One client with `cast.users` users: terminal `uN`, its extension, unlimited calls at a time.
pub(crate) fn configuration(cast: &Cast) -> io::Result<Configuration> {
    let (brand, client) = (Id::new(1), Id::new(1));
    let mut configuration = Configuration {
        brands: vec![Brand { id: brand, name: "Bench".to_owned() }],
        clients: vec![Client { id: client, brand, name: "Bench".to_owned(), domain: cast.domain.clone() }],
        ..Configuration::default()
    };
    for number in 1..=cast.users {
        let dialled = (cast.first_extension + number).to_string().parse().map_err(io::Error::other)?;
        configuration.terminals.push(Terminal {
            id: Id::new(number),
            client,
            name: format!("u{number}"),
            secret: Secret::new(cast.secret.clone()),
        });
        configuration.users.push(User {
            id: Id::new(number),
            client,
            first_name: "User".to_owned(),
            last_name: number.to_string(),
            terminal: Some(Id::new(number)),
            extension: Some(Id::new(number)),
            do_not_disturb: false,
            call_waiting: 0,
            multi_contact: true,
            rejection: RejectionMethod::ByResponse,
        });
        configuration.extensions.push(Extension {
            id: Id::new(number),
            client,
            number: dialled,
            route: ExtensionRoute::User(Id::new(number)),
        });
    }
    Ok(configuration)
}
