//! Our changes of the session and its refreshes: re-INVITE and UPDATE, when they may go and what their failure means
//! (RFC 3261 section 14.1, RFC 3311 section 5, RFC 4028 section 10, RFC 6337 section 4.3).
//!
//! In: what the user wants, the session timer, failures. Out: one change at a time, again after a glare.
//! Elsewhere: the INVITE transaction itself (`uac`), the peer's changes (`uas`, `requests`).

use super::face::{CommandError, EndCause, Event};
use super::offers::{Exchange, OurVehicle};
use super::requests::Job;
use super::{Life, Session};
use crate::draft::HeaderText;
use crate::msg::{Message, Method};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How often one change is tried again, for whatever reason.
const RETRIES_MAX: u8 = 6;
/// A peer that is busy for longer than this has refused.
const RETRY_AFTER_MAX: u32 = 10;

/// A change of the session, or a refresh without change.
#[derive(Debug)]
pub(super) struct Modify {
    what: What,
    /// By UPDATE; else by re-INVITE.
    update: bool,
    retries: u8,
}

#[derive(Debug)]
enum What {
    /// The user's offer.
    Offer(Bytes),
    /// The user wants the peer's offer.
    Ask,
    /// Nothing changes.
    Refresh,
    /// Nothing but where we are.
    Announce,
}

/// A change that has to wait: for its turn, or for a time.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) modify: Modify,
    pub(super) not_before: Option<Instant>,
}

impl Modify {
    pub(super) fn is_by_user(&self) -> bool {
        matches!(self.what, What::Offer(_) | What::Ask)
    }
}

impl Session {
    /// [`super::Command::Reoffer`].
    pub(super) fn reoffer(&mut self, sdp: Option<Bytes>, prefer_update: bool) -> Result<(), CommandError> {
        if self.has_users_change() {
            return Err(CommandError::Busy);
        }
        let early = self.life == Life::Early;
        if early {
            if self.calling.as_ref().is_some_and(|c| c.cancelled) {
                return Err(CommandError::WrongState);
            }
            // RFC 3311 section 5.1: not before the first exchange was done reliably.
            self.select_fork_where(|usage| usage.is_settled() && usage.takes_update);
            if sdp.is_none() || !self.usage.is_settled() {
                return Err(CommandError::WrongState);
            }
            if !self.usage.takes_update {
                return Err(CommandError::Unsupported);
            }
        }
        let update = sdp.is_some() && (early || (prefer_update && self.usage.takes_update));
        let what = sdp.map_or(What::Ask, What::Offer);
        let modify = Modify { what, update, retries: 0 };
        self.wanted = Some(Box::new(Wanted { modify, not_before: None }));
        Ok(())
    }

    /// The session timer wants a refresh: by UPDATE where the peer takes it (RFC 4028 section 7.4).
    pub(super) fn refresh(&mut self) {
        let busy = self.wanted.is_some() || self.calling.is_some() || self.is_updating();
        if !busy {
            let modify = Modify { what: What::Refresh, update: self.usage.takes_update, retries: 0 };
            self.wanted = Some(Box::new(Wanted { modify, not_before: None }));
        }
    }

    /// [`Session::announce`]. Whatever changes the session tells it, too.
    pub(super) fn want_announcement(&mut self, within: Duration, now: Instant) {
        if self.wanted.is_none() && self.calling.is_none() && !self.is_updating() {
            let modify = Modify { what: What::Announce, update: self.usage.takes_update, retries: 0 };
            let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let not_before = Some(now + Duration::from_millis(self.draw(millis.saturating_add(1))));
            self.wanted = Some(Box::new(Wanted { modify, not_before }));
        }
    }

    /// The peer changes the session: the answer tells it where we are.
    pub(super) fn answer_announces(&mut self) {
        self.wanted.take_if(|wanted| matches!(wanted.modify.what, What::Announce));
    }

    /// Sends the change that waits, if its time has come.
    pub(super) fn try_wanted(&mut self, now: Instant) {
        let Some(wanted) = &mut self.wanted else { return };
        if wanted.not_before.is_some_and(|at| at > now) {
            return;
        }
        wanted.not_before = None;
        let update = wanted.modify.update;
        if self.may_modify(update)
            && let Some(wanted) = self.wanted.take()
        {
            self.modify(wanted.modify, now);
        }
    }

    /// The rules UAC-II, UAC-UU, UAC-UI and UAC-IU of RFC 6337 section 4.3.
    fn may_modify(&self, update: bool) -> bool {
        if !self.usage.exchange.is_idle() || self.is_updating() {
            return false;
        }
        match self.life {
            Life::Over => false,
            Life::Confirmed => self.calling.is_none() && self.serving.is_none(),
            Life::Early => {
                let pracking = self.clients.iter().any(|client| matches!(client.job, Job::Prack(_)));
                let unacknowledged = self.serving.as_ref().is_some_and(|s| s.reliable.is_outstanding());
                update && self.usage.is_settled() && !pracking && !unacknowledged
            }
        }
    }

    fn modify(&mut self, modify: Modify, now: Instant) {
        let offer = match &modify.what {
            What::Offer(sdp) => {
                let sdp = sdp.clone();
                Some(self.usage.continue_with(sdp))
            }
            What::Ask => None,
            What::Refresh | What::Announce if modify.update => None,
            What::Refresh | What::Announce => self.usage.local_sdp.clone(),
        };
        if !modify.update {
            return self.reinvite(modify, offer, now);
        }
        if let Some(sdp) = &offer {
            self.usage.exchange = Exchange::Ours { sdp: sdp.clone(), by: OurVehicle::Update };
        }
        let mut lines = self.dialog_lines(HeaderText::new());
        if self.life == Life::Confirmed {
            self.timer.ask(&self.cfg.session_timer, &mut lines);
        }
        self.submit(Job::Update(modify), Method::Update, lines, "application/sdp", offer.unwrap_or_default());
    }

    /// The final response to our UPDATE; `None` for a failure of the transaction.
    pub(super) fn on_updated(
        &mut self,
        modify: Modify,
        status: u16,
        msg: Option<&Message>,
        again: bool,
        now: Instant,
    ) {
        let offered = matches!(self.usage.exchange, Exchange::Ours { by: OurVehicle::Update, .. });
        let Some(msg) = msg.filter(|_| status < 300) else {
            if offered {
                self.usage.exchange = Exchange::Idle;
            }
            return self.modify_failed(modify, status, msg, again, now);
        };
        self.usage.dialog.target_refresh(msg);
        self.aim(None);
        self.usage.learn(msg);
        if self.life == Life::Confirmed {
            self.timer.confirm(msg, &self.cfg.session_timer, now);
        }
        match msg.sdp() {
            _ if !offered => {}
            Some(sdp) => {
                self.usage.take_answer(&sdp);
                self.tell(Event::Answer { sdp });
            }
            None => {
                self.usage.exchange = Exchange::Idle;
                self.tell(Event::OfferRejected { status: 488 });
            }
        }
    }

    /// Our re-INVITE or UPDATE was refused; the session is as it was. `again`: the refusal can be answered at once.
    pub(super) fn modify_failed(
        &mut self,
        mut modify: Modify,
        status: u16,
        msg: Option<&Message>,
        again: bool,
        now: Instant,
    ) {
        if self.life == Life::Over {
            return;
        }
        let retry_after =
            msg.and_then(Message::retry_after).map(|after| after.secs).filter(|s| *s <= RETRY_AFTER_MAX);
        let wait = match (status, retry_after) {
            _ if modify.retries >= RETRIES_MAX => None,
            _ if again => Some(Duration::ZERO),
            (491, _) => Some(self.glare_pause()),
            // Two offers of ours and the peer's met in the order that RFC 3311 section 5.2 answers with 500.
            (500, Some(secs)) => Some(Duration::from_secs(u64::from(secs)) + self.glare_pause()),
            (405 | 501, _) if modify.update && self.life == Life::Confirmed => {
                self.usage.takes_update = false;
                modify.update = false;
                Some(Duration::ZERO)
            }
            _ => None,
        };
        if let Some(wait) = wait {
            modify.retries += 1;
            // A refresh gives way to a change of the user's: that refreshes too.
            if self.wanted.is_none() {
                let not_before = Some(now + wait);
                self.wanted = Some(Box::new(Wanted { modify, not_before }));
            }
            return;
        }
        let is_announcement = matches!(modify.what, What::Announce);
        if self.life == Life::Confirmed && (status == 481 || status == 408 && !is_announcement) {
            return self.hang_up(None, gone(status), now);
        }
        if modify.is_by_user() {
            self.tell(Event::OfferRejected { status });
        }
        // A refresh that failed is tried again by the session timer while there is time (RFC 4028 section 10).
    }

    /// RFC 3261 section 14.1: 2.1 to 4 seconds for the owner of the Call-ID, 0 to 2 for the other, in units of 10 ms.
    fn glare_pause(&mut self) -> Duration {
        let steps = if self.caller { 210 + self.draw(191) } else { self.draw(201) };
        Duration::from_millis(steps * 10)
    }

    pub(super) fn is_updating(&self) -> bool {
        self.clients.iter().any(|client| matches!(client.job, Job::Update(_)))
    }

    fn has_users_change(&self) -> bool {
        self.wanted.as_ref().is_some_and(|w| w.modify.is_by_user())
            || self.calling.as_ref().is_some_and(|c| c.is_users_change())
            || self
                .clients
                .iter()
                .any(|client| matches!(&client.job, Job::Update(modify) if modify.is_by_user()))
    }
}

/// The end that a status means inside a dialog (RFC 3261 section 12.2.1.2).
pub(super) fn gone(status: u16) -> EndCause {
    if status == 481 { EndCause::Gone } else { EndCause::TransactionFailed }
}
