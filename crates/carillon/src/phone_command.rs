//! `carillon phone`: the softphone on the command line, for tests and scripts.
//!
//! Elsewhere: the phone itself (crate `phone`).

use crate::node::StartError;
use crate::{Ending, start_logging, tell};
use phone::{CallEvent, Phone, PhoneCall, PhoneConfig, PhoneError, Source, read_wav, write_wav};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What `carillon phone` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// User part and digest user name.
    #[arg(long)]
    user: String,
    /// Digest password; better given as CARILLON_PHONE_PASSWORD, which other users of the machine cannot list.
    #[arg(long, env = "CARILLON_PHONE_PASSWORD", hide_env_values = true)]
    password: String,
    /// Domain of the account.
    #[arg(long, default_value = "users.democlient.com")]
    domain: String,
    /// Address of the SIP proxy.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5060")]
    server: SocketAddr,
    /// Reach it by TCP instead of UDP.
    #[arg(long)]
    tcp: bool,
    /// Local address; default: loopback when the server is there, else any.
    #[arg(long)]
    bind: Option<IpAddr>,
    /// Call this number.
    #[arg(long, value_name = "NUMBER", conflicts_with = "answer")]
    call: Option<String>,
    /// Answer one call after another until stopped; with --seconds only one.
    #[arg(long)]
    answer: bool,
    /// Play a tone of so many Hz.
    #[arg(long, value_name = "HZ", conflicts_with = "play")]
    tone: Option<f32>,
    /// Play a WAV file (16 bit, mono, 8000 Hz).
    #[arg(long, value_name = "FILE")]
    play: Option<PathBuf>,
    /// Write what is heard to a WAV file.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Dial these digits after the answer (RFC 4733).
    #[arg(long, value_name = "DIGITS")]
    digits: Option<String>,
    /// Hang up this long after the answer.
    #[arg(long)]
    seconds: Option<u64>,
}

/// Registers, then calls, answers, or just stays registered.
pub(crate) async fn run(arguments: Arguments) -> Result<(), StartError> {
    start_logging("warn", false);
    let local = arguments.server.ip().is_loopback().then_some(arguments.server.ip());
    let bind = arguments.bind.or(local).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    if bind.is_unspecified() {
        return Err(StartError(
            "name the local address with --bind; the server is not on loopback".to_owned(),
        ));
    }
    let source = source(&arguments)?;
    let config = PhoneConfig {
        username: arguments.user.clone(),
        password: arguments.password.clone(),
        domain: arguments.domain.clone(),
        server: arguments.server,
        tcp: arguments.tcp,
        bind,
    };
    let mut ending = Ending::listen()?;
    let mut phone = Phone::start(config).await.map_err(failed)?;
    phone.register(300).await.map_err(failed)?;
    tell(&format!("registered as {} at {}", arguments.user, arguments.server));
    let outcome = work(&mut phone, &arguments, &source, &mut ending).await;
    if let Err(error) = phone.register(0).await {
        tell(&format!("not unregistered: {error}"));
    }
    outcome
}

async fn work(
    phone: &mut Phone,
    arguments: &Arguments,
    source: &Source,
    ending: &mut Ending,
) -> Result<(), StartError> {
    if let Some(number) = &arguments.call {
        let call = phone.call(number, source.clone()).await.map_err(failed)?;
        return talk(call, arguments, ending).await;
    }
    loop {
        tokio::select! {
            () = ending.comes() => return Ok(()),
            call = phone.incoming(), if arguments.answer => {
                let Some(call) = call else { return Ok(()) };
                tell(&format!("{} calls", call.caller));
                call.answer(source.clone());
                talk(call, arguments, ending).await?;
                if arguments.seconds.is_some() {
                    return Ok(());
                }
            }
        }
    }
}

/// Follows a call to its end; an unanswered one is an error.
async fn talk(mut call: PhoneCall, arguments: &Arguments, ending: &mut Ending) -> Result<(), StartError> {
    let mut hang_up_at = None;
    let mut answered = false;
    let mut hung_up = false;
    let status = loop {
        let event = tokio::select! {
            event = call.next() => event,
            () = enough(hang_up_at, ending), if !hung_up => {
                hung_up = true;
                call.hang_up();
                continue;
            }
        };
        match event {
            Some(CallEvent::Ringing { status }) => tell(&format!("ringing ({status})")),
            Some(CallEvent::Answered) => {
                tell("answered");
                answered = true;
                hang_up_at = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
                arguments.digits.iter().flat_map(|digits| digits.chars()).for_each(|digit| call.digit(digit));
            }
            Some(CallEvent::Held(held)) => tell(if held { "on hold" } else { "resumed" }),
            Some(CallEvent::Digit(digit)) => tell(&format!("digit {digit}")),
            Some(CallEvent::Ended { status, .. }) => break status,
            None => break 487,
        }
    };
    tell(&format!("ended ({status}), {} packets heard", call.heard().packets()));
    if let Some(file) = &arguments.record {
        let shown = file.display();
        write_wav(file, &call.heard().samples())
            .map_err(|error| StartError(format!("--record {shown}: {error}")))?;
    }
    if answered { Ok(()) } else { Err(StartError(format!("not answered: {status}"))) }
}

/// Returns when the call has lasted as long as was asked for, or the program shall end.
async fn enough(hang_up_at: Option<Instant>, ending: &mut Ending) {
    match hang_up_at {
        Some(at) => tokio::select! {
            () = sleep_until(at) => {}
            () = ending.comes() => {}
        },
        None => ending.comes().await,
    }
}

fn source(arguments: &Arguments) -> Result<Source, StartError> {
    match (&arguments.play, arguments.tone) {
        (Some(file), _) => {
            let shown = file.display();
            let samples = read_wav(file).map_err(|error| StartError(format!("--play {shown}: {error}")))?;
            Ok(Source::Samples(samples.into()))
        }
        (None, Some(hz)) => Ok(Source::Tone(hz)),
        (None, None) => Ok(Source::Silence),
    }
}

fn failed(error: PhoneError) -> StartError {
    StartError(error.to_string())
}
