//! Kamailio, the peer for SIP: configurations filled in, started with its fast allocator.

use crate::cpu::{self, Server};
use crate::digest::Algorithm;
use crate::sipload::{Cast, Generator};
use crate::udp;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What Kamailio shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Stateful proxy in front of the generator's callees.
    Proxy {
        /// With its dialog module, which makes it hold something for an established call.
        dialogs: bool,
    },
    /// Registrar with digest.
    Registrar {
        /// What it challenges with.
        algorithm: Algorithm,
    },
}

/// UDP workers that do best on one core, found by trying 1, 2 and 4.
const WORKERS: u32 = 2;
/// Largest receive buffer that it may ask for, in bytes: eight times its default carries about a fifth more calls.
const RECEIVE_BUFFER: &str = "2097152";

/// Installs what is missing.
pub(crate) fn install() -> io::Result<()> {
    cpu::need("kamailio", "kamailio")
}

/// Starts it with a generator around it.
pub(crate) fn start(role: Role, users: u32, directory: &Path) -> io::Result<(Server, Generator)> {
    let port = udp::free_port()?;
    let cast = Cast {
        servers: vec![([127, 0, 0, 1], port).into()],
        domain: "bench.example".to_owned(),
        users,
        first_extension: 1000,
        secret: "bench-secret".to_owned(),
    };
    let (template, algorithm, defines) = match role {
        Role::Proxy { dialogs } => {
            (include_str!("../kamailio/proxy.cfg"), Algorithm::Md5, dialogs.then_some("WITH_DIALOG"))
        }
        Role::Registrar { algorithm } => (include_str!("../kamailio/register.cfg"), algorithm, None),
    };
    let (domain, secret) = (cast.domain.clone(), cast.secret.clone());
    let mut generator = Generator::new(cast)?;
    let text = template
        .replace("@PORT@", &port.to_string())
        .replace("@UAS@", &generator.callee_port()?.to_string())
        .replace("@WORKERS@", &WORKERS.to_string())
        .replace("@ALGORITHM@", algorithm.token())
        .replace("@DOMAIN@", &domain)
        .replace("@SECRET@", &secret);
    let file = directory.join("kamailio.cfg");
    std::fs::write(&file, text)?;
    let run = directory.display();
    let mut arguments: Vec<String> =
        ["-DD", "-E", "-b", RECEIVE_BUFFER, "-x", "tlsf", "-m", "4096", "-M", "32", "-f"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend([file.display().to_string(), "-Y".to_owned(), run.to_string()]);
    arguments.extend(["-P".to_owned(), format!("{run}/kamailio.pid")]);
    arguments.extend(defines.into_iter().flat_map(|define| ["-A".to_owned(), define.to_owned()]));
    let mut server = Server::start(&cpu::find("kamailio")?, &arguments, directory)?;
    let ready = generator.wait_for_answer(Duration::from_secs(10));
    server.check()?;
    ready?;
    Ok((server, generator))
}
