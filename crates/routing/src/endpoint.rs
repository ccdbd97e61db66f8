//! What routing knows of those who call and are called: their form of numbers, the DDI that they show, whether they send faxes.
//!
//! In: an endpoint and its client. Out: facts from its row, and numbers in its form. Elsewhere: where it is reached (the proxies).

use crate::Router;
use crate::note::Notes;
use crate::selection::Attempt;
use crate::transform::{EXPRESSIONS_MAX, NumberError};
use model::define::choices::{DdiAction, YesNo};
use model::entities::{
    Company, CompanyKind, Ddi, Fax, Friend, MatchList, MatchListPattern, MatchListPatternKind,
    OutgoingDdiRule, OutgoingDdiRulesPattern, OutgoingDdiRulesPatternKind as RuleKind, ResidentialDevice,
    RetailAccount, TransformationRuleKind as Kind, TransformationRuleSet, User,
};
use model::{E164, Id};

/// Something of a client that calls and is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A user of a virtual PBX, whatever telephone is used.
    User(Id<User>),
    /// A remote friend of a virtual PBX.
    Friend(Id<Friend>),
    /// A device of a residential client.
    ResidentialDevice(Id<ResidentialDevice>),
    /// An account of a retail client.
    RetailAccount(Id<RetailAccount>),
    /// A virtual fax, which sends documents.
    Fax(Id<Fax>),
    /// A wholesale client itself.
    Wholesale,
}

/// What an endpoint's row says about its calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Its form of numbers: its own set, or else the client's.
    pub(crate) rules: Option<Id<TransformationRuleSet>>,
    /// The DDI that it shows.
    pub(crate) outgoing_ddi: Option<Id<Ddi>>,
    /// Exceptions from that: its own rule, or else the client's.
    ddi_rule: Option<Id<OutgoingDdiRule>>,
    /// Its calls are faxes: it is one, or T.38 passes through it.
    pub(crate) fax: bool,
    /// The number that it tells counts. Users show what is configured (manual, chapter 7.4).
    pub(crate) presents: bool,
    /// Calls to it name what was called.
    names_called: bool,
}

/// Numbers as a carrier gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToCarrier {
    /// The called number, with the route's prefix before it.
    pub called: String,
    /// The number that is shown; nothing where there is none to show.
    pub caller: Option<String>,
}

impl Router {
    /// What the endpoint's row says, if it is this client's.
    pub(crate) fn line(&self, endpoint: Endpoint, client: &Company) -> Option<Line> {
        let rows = self.rows();
        let vpbx = client.kind == CompanyKind::Vpbx;
        let base = Line {
            rules: client.transformation_rule_set,
            outgoing_ddi: None,
            ddi_rule: client.outgoing_ddi_rule.filter(|_| vpbx),
            fax: false,
            presents: true,
            names_called: true,
        };
        let own = |company: Id<Company>| (company == client.id).then_some(());
        let device = |rules: Option<_>, outgoing_ddi, t38_passthrough, ddi_in| Line {
            rules: rules.or(base.rules),
            outgoing_ddi,
            fax: t38_passthrough == YesNo::Yes,
            names_called: ddi_in == YesNo::Yes,
            ..base
        };
        Some(match endpoint {
            Endpoint::User(id) => {
                let row = rows.get(id)?;
                own(row.company)?;
                let terminal = rows.at(row.terminal);
                Line {
                    rules: row.transformation_rule_set.or(base.rules),
                    outgoing_ddi: row.outgoing_ddi,
                    ddi_rule: row.outgoing_ddi_rule.or(base.ddi_rule),
                    fax: terminal.is_some_and(|terminal| terminal.t38_passthrough == YesNo::Yes),
                    presents: false,
                    ..base
                }
            }
            Endpoint::Friend(id) => {
                let row = rows.get(id)?;
                own(row.company)?;
                device(row.transformation_rule_set, row.outgoing_ddi, row.t38_passthrough, row.ddi_in)
            }
            Endpoint::ResidentialDevice(id) => {
                let row = rows.get(id)?;
                own(row.company)?;
                device(row.transformation_rule_set, row.outgoing_ddi, row.t38_passthrough, row.ddi_in)
            }
            Endpoint::RetailAccount(id) => {
                let row = rows.get(id)?;
                own(row.company)?;
                device(row.transformation_rule_set, row.outgoing_ddi, row.t38_passthrough, row.ddi_in)
            }
            Endpoint::Fax(id) => {
                let row = rows.get(id)?;
                own(row.company)?;
                Line { outgoing_ddi: row.outgoing_ddi, fax: true, presents: false, ..base }
            }
            Endpoint::Wholesale => (client.kind == CompanyKind::Wholesale).then_some(base)?,
        })
    }

    /// The transformation rule set of an endpoint: its own, or else its client's.
    pub fn rules_of(&self, endpoint: Endpoint, client: Id<Company>) -> Option<Id<TransformationRuleSet>> {
        self.line(endpoint, self.rows().get(client)?)?.rules
    }

    /// A number in the form of whoever has a transformation rule set, by the rules of one kind; as it is where none fits.
    ///
    /// # Errors
    ///
    /// It is too long, or a rule took too many steps.
    pub fn transform(
        &self,
        set: Option<Id<TransformationRuleSet>>,
        kind: Kind,
        number: &str,
    ) -> Result<String, NumberError> {
        self.index.rules.apply(set, kind, number, &mut ()).map(|made| made.number)
    }

    /// A number in E.164, out of the form of whoever has a transformation rule set: what requests name beside caller and
    /// called one, such as Diversion and Refer-To.
    ///
    /// # Errors
    ///
    /// The rules make none of it.
    pub fn to_e164(
        &self,
        set: Option<Id<TransformationRuleSet>>,
        kind: Kind,
        number: &str,
    ) -> Result<E164, NumberError> {
        self.index.rules.e164(set, kind, number, &mut ())
    }

    /// A caller's number in the form of the endpoint that is called.
    ///
    /// # Errors
    ///
    /// As [`Router::transform`].
    pub fn caller_at(
        &self,
        endpoint: Endpoint,
        client: Id<Company>,
        caller: &E164,
    ) -> Result<String, NumberError> {
        self.transform(self.rules_of(endpoint, client), Kind::CallerOut, caller.as_str())
    }

    /// The called number in the form of the endpoint that is called ("DDI In"). Nothing: the request names the user part that
    /// the endpoint registered with, or its own name.
    ///
    /// # Errors
    ///
    /// As [`Router::transform`].
    pub fn called_at(
        &self,
        endpoint: Endpoint,
        client: Id<Company>,
        called: &E164,
    ) -> Result<Option<String>, NumberError> {
        let line = self.rows().get(client).and_then(|client| self.line(endpoint, client));
        let Some(line) = line.filter(|line| line.names_called) else { return Ok(None) };
        self.transform(line.rules, Kind::CalleeOut, called.as_str()).map(Some)
    }

    /// What a remote friend is called by, when a number within the client leads there ([`crate::Target::Friend`]): as it was
    /// dialled, unless the friend's transformations always apply.
    ///
    /// # Errors
    ///
    /// As [`Router::transform`].
    pub fn dialled_at_friend(&self, friend: Id<Friend>, number: &str) -> Result<String, NumberError> {
        let row = self.rows().get(friend).filter(|friend| friend.always_apply_transformations);
        match row.and_then(|row| self.rules_of(Endpoint::Friend(friend), row.company)) {
            Some(set) => self.transform(Some(set), Kind::CalleeOut, number),
            None => Ok(number.to_owned()),
        }
    }

    /// The numbers of a call as the carrier of an attempt wants them. `shown` is what the call shows, unless the route says
    /// something else.
    ///
    /// # Errors
    ///
    /// As [`Router::transform`].
    pub fn for_carrier(
        &self,
        attempt: &Attempt,
        called: &E164,
        shown: Option<&E164>,
    ) -> Result<ToCarrier, NumberError> {
        self.noted_for_carrier(attempt, called, shown, &mut ())
    }

    pub(crate) fn noted_for_carrier(
        &self,
        attempt: &Attempt,
        called: &E164,
        shown: Option<&E164>,
        notes: &mut impl Notes,
    ) -> Result<ToCarrier, NumberError> {
        let set = self.rows().get(attempt.carrier).and_then(|carrier| carrier.transformation_rule_set);
        let mut made = |kind, number: &E164| self.index.rules.apply(set, kind, number.as_str(), notes);
        let called = made(Kind::CalleeOut, called)?.number;
        let shown = attempt.treatment.shown.as_ref().or(shown);
        let caller = shown.map(|shown| made(Kind::CallerOut, shown)).transpose()?.map(|made| made.number);
        Ok(ToCarrier { called: format!("{}{called}", attempt.treatment.prefix), caller })
    }

    /// The parts of the caller's outgoing DDI rule, in order.
    fn rule_parts(&self, line: &Line) -> Vec<&OutgoingDdiRulesPattern> {
        let Some(rule) = line.ddi_rule else { return Vec::new() };
        let mut parts: Vec<&OutgoingDdiRulesPattern> =
            self.rows().of("outgoingDdiRule", rule.get()).collect();
        parts.sort_by_key(|part| (part.priority, part.id));
        parts
    }

    /// Takes off a prefix that the outgoing DDI rule knows (manual, chapter 10.1.7).
    pub(crate) fn ddi_prefix<'a>(
        &self,
        line: &Line,
        text: &'a str,
    ) -> (Option<Id<OutgoingDdiRulesPattern>>, &'a str) {
        let dialled = text.split_once('*').filter(|(digits, _)| digits.len() <= 3);
        let Some((digits, rest)) = dialled.filter(|_| line.ddi_rule.is_some()) else { return (None, text) };
        let fits = |part: &&OutgoingDdiRulesPattern| {
            part.kind == RuleKind::Prefix
                && part.prefix.as_deref().and_then(|prefix| prefix.strip_suffix('*')) == Some(digits)
        };
        match self.rule_parts(line).into_iter().find(fits) {
            Some(part) => (Some(part.id), rest),
            None => (None, text),
        }
    }

    /// Whether the outgoing DDI rule forces a DDI for this call, and which; nothing within: the client's.
    pub(crate) fn forced_ddi(
        &self,
        line: &Line,
        called: &E164,
        by_prefix: Option<Id<OutgoingDdiRulesPattern>>,
    ) -> Option<Option<Id<Ddi>>> {
        let rule = self.rows().at(line.ddi_rule)?;
        let fits = |part: &&OutgoingDdiRulesPattern| match part.kind {
            RuleKind::Prefix => by_prefix == Some(part.id),
            RuleKind::Destination => part.match_list.is_some_and(|list| self.is_listed(list, called)),
        };
        let part = self.rule_parts(line).into_iter().find(fits);
        let (action, ddi) =
            part.map_or((rule.default_action, rule.forced_ddi), |part| (part.action, part.forced_ddi));
        (action == DdiAction::Force).then_some(ddi)
    }

    /// Whether a match list has a number. Of its expressions, [`EXPRESSIONS_MAX`] are tried.
    pub fn is_listed(&self, list: Id<MatchList>, number: &E164) -> bool {
        let mut expressions = 0;
        let mut patterns = self.rows().of::<MatchListPattern>("matchList", list.get());
        patterns.any(|pattern| match pattern.kind {
            MatchListPatternKind::Regexp => {
                expressions += 1;
                let expression = self.index.expressions.of_list(pattern.id);
                expression
                    .filter(|_| expressions <= EXPRESSIONS_MAX)
                    .is_some_and(|expression| expression.is_in(number.as_str()))
            }
            MatchListPatternKind::Number => {
                let value = pattern.numbervalue.as_deref().unwrap_or_default();
                self.outside(pattern.number_country, value).is_ok_and(|listed| listed == *number)
            }
        })
    }
}
