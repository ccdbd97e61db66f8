//! `carillon phone`: the softphone on the command line, for tests and scripts.
//!
//! Elsewhere: the phone itself (crate `phone`).

use crate::node::StartError;
use crate::{Ending, complain, logging, tell};
use phone::{CallEvent, Phone, PhoneCall, PhoneConfig, PhoneError, Source, read_wav, write_wav};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// The end of the program does not wait for the server longer than this.
const FAREWELL: Duration = Duration::from_secs(3);

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
    /// Write what is heard to a WAV file when the call is over: its last 120 seconds. The next call replaces it.
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
    logging::start("warn", false);
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
    register(&phone, &mut ending).await?;
    tell(&format!("registered as {} at {}", arguments.user, arguments.server));
    let outcome = work(&mut phone, &arguments, &source, &mut ending).await;
    match timeout(FAREWELL, phone.register(0)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tell(&format!("not unregistered: {error}")),
        Err(_) => tell("not unregistered: the server does not answer"),
    }
    outcome
}

/// A server that does not answer is not waited for when the program shall end.
async fn register(phone: &Phone, ending: &mut Ending) -> Result<(), StartError> {
    tokio::select! {
        biased;
        () = ending.comes() => Err(StartError("ended before the server answered".to_owned())),
        registered = phone.register(300) => registered.map_err(failed),
    }
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
    tell(match arguments.answer {
        true => "waits for calls and answers them; Ctrl-C ends this",
        false => {
            "stays registered: a call rings here and is not answered (--answer does that, --call NUMBER calls); Ctrl-C ends this"
        }
    });
    loop {
        tokio::select! {
            () = ending.comes() => return Ok(()),
            call = phone.incoming(), if arguments.answer => {
                let Some(call) = call else { return Ok(()) };
                tell(&format!("{} calls", call.caller));
                call.answer(source.clone());
                let outcome = talk(call, arguments, ending).await;
                if arguments.seconds.is_some() {
                    return outcome;
                }
                if let Err(StartError(text)) = outcome {
                    complain(&text); // the next caller may do better
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
    let mut farewell = None;
    let status = loop {
        let event = tokio::select! {
            event = call.next() => event,
            () = enough(hang_up_at, ending), if !hung_up => {
                hung_up = true;
                farewell = ending.came.then(|| Instant::now() + FAREWELL);
                call.hang_up();
                continue;
            }
            () = sleep_until(farewell.unwrap_or_else(Instant::now)), if farewell.is_some() => break 408,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tokio::net::UdpSocket;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// A phone whose server hears everything and says nothing.
    async fn phone(silent: &UdpSocket) -> Phone {
        let server = silent.local_addr().unwrap();
        let (username, password) = ("bob".to_owned(), "bob".to_owned());
        let domain = "example.com".to_owned();
        let config = PhoneConfig { username, password, domain, server, tcp: false, bind: server.ip() };
        Phone::start(config).await.unwrap()
    }

    async fn silent_server() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    #[tokio::test]
    async fn ctrl_c_does_not_wait_for_a_server_that_does_not_answer() {
        let silent = silent_server().await;
        let phone = phone(&silent).await;
        let mut ending = Ending::come().unwrap();
        let StartError(text) = register(&phone, &mut ending).await.unwrap_err();
        assert_eq!(text, "ended before the server answered");
    }

    #[tokio::test]
    async fn a_caller_who_cannot_be_answered_is_not_the_last_one() {
        let silent = silent_server().await;
        let mut phone = phone(&silent).await;
        let to = phone.address();
        let line = ["phone", "--user", "bob", "--password", "bob", "--answer"];
        let arguments = Line::parse_from(line).arguments;
        let mut ending = Ending::listen().unwrap();
        let callers = async {
            let caller = silent_server().await;
            let from = caller.local_addr().unwrap();
            for number in 1..=3 {
                let body = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video {} RTP/AVP 34\r\n",
                    from.port()
                );
                let invite = format!(
                    "INVITE sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
                     From: <sip:alice@example.com>;tag={number}\r\nTo: <sip:bob@example.com>\r\nCall-ID: {number}\r\n\
                     CSeq: 1 INVITE\r\nContact: <sip:alice@{from}>\r\nContent-Type: application/sdp\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                caller.send_to(invite.as_bytes(), to).await.unwrap();
                let mut buffer = [0; 2000];
                loop {
                    let (length, _) = caller.recv_from(&mut buffer).await.unwrap();
                    let response = String::from_utf8_lossy(&buffer[..length]);
                    if response.starts_with("SIP/2.0 488") && response.contains(&format!("z9hG4bK{number}\r"))
                    {
                        break;
                    }
                }
            }
        };
        tokio::select! {
            outcome = work(&mut phone, &arguments, &Source::Silence, &mut ending) => panic!("{outcome:?}"),
            heard = timeout(Duration::from_secs(30), callers) => heard.unwrap(),
        }
    }
}
