//! Users of a vPBX client from comma-separated values, with their terminals, extensions and DDIs.
//!
//! Eleven columns without a header: name, last name, e-mail, terminal, its password, its model, its MAC address, extension,
//! country of the DDI by its ISO code or its calling code, DDI, DDI provider. Who or what is there already, by its name, is changed; a cell that is empty
//! changes nothing. Elsewhere: how an import goes (`bulk`).

use super::bulk::{self, Form, MOST_LINES, short};
use super::sheet::{Dialect, Line, Wrong};
use crate::http::Problem;
use crate::routes::{self, Call};
use axum::body::Body;
use axum::http::Response;
use model::define::{Entity, Secret, Value};
use model::draft::Draft;
use model::entities::{
    Company, CompanyKind, Country, Ddi, DdiProvider, Extension, ExtensionRouteType, Terminal, TerminalModel,
    User,
};
use model::rows::Rows;
use model::rules::{Mistake, Refusal};
use model::{Id, checks};

/// Columns of the file.
const COLUMNS: usize = 11;
/// Most users of one file; each takes several rows.
const MOST_USERS: usize = 1000;

/// One line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    line: usize,
    name: String,
    lastname: String,
    email: String,
    terminal: String,
    password: String,
    model: String,
    mac: String,
    extension: String,
    country: String,
    ddi: String,
    provider: String,
}

impl Given {
    fn read(line: &Line) -> Self {
        let cell = |place: usize| line.cell(place).to_owned();
        Self {
            line: line.number,
            name: cell(0),
            lastname: cell(1),
            email: cell(2),
            terminal: cell(3),
            password: cell(4),
            model: cell(5),
            mac: plain_mac(line.cell(6)),
            extension: cell(7),
            country: cell(8),
            ddi: cell(9),
            provider: cell(10),
        }
    }

    /// What can be said wrong of the line without looking at any row.
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut require = |holds: bool, field: &str, remedy: &str| {
            if !holds {
                mistakes.push(Mistake { field: field.to_owned(), remedy: remedy.to_owned() });
            }
        };
        require(fits(&self.name, 1, 100), "name", "write 1 to 100 characters");
        require(fits(&self.lastname, 1, 100), "lastname", "write 1 to 100 characters");
        let email = self.email.is_empty() || (fits(&self.email, 0, 100) && checks::email(&self.email));
        require(email, "email", "write an address like name@example.com, or nothing");
        let terminal =
            self.terminal.is_empty() || (checks::sip_name(&self.terminal) && fits(&self.terminal, 0, 100));
        require(terminal, "terminal", "write letters, digits, underscores and asterisks");
        let needs = self.terminal.is_empty()
            && !(self.password.is_empty() && self.model.is_empty() && self.mac.is_empty());
        require(!needs, "terminal", "write its name, too");
        let fault = checks::sip_password_fault(&self.password).filter(|_| !self.password.is_empty());
        require(fault.is_none(), "terminal password", fault.unwrap_or_default());
        require(fits(&self.password, 0, 25), "terminal password", "write 25 characters at most");
        let mac =
            self.mac.is_empty() || (self.mac.len() == 12 && self.mac.bytes().all(|b| b.is_ascii_hexdigit()));
        require(mac, "mac", "write 12 hexadecimal digits");
        let extension =
            self.extension.is_empty() || (checks::digits(&self.extension) && fits(&self.extension, 0, 10));
        require(extension, "extension", "write 1 to 10 digits");
        let ddi = self.ddi.is_empty() || (checks::digits(&self.ddi) && fits(&self.ddi, 0, 25));
        require(ddi, "ddi", "write digits, without the country's calling code");
        mistakes
    }
}

fn fits(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.chars().count())
}

/// A MAC address in small letters, without what stands between its parts.
pub(super) fn plain_mac(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ':' | '-' | '.' | ' ')).collect::<String>().to_ascii_lowercase()
}

/// The whole import.
pub(super) async fn import(call: &Call) -> Result<Response<Body>, Problem> {
    let (parts, text) = bulk::upload(call).await?;
    let id = bulk::part_id(&parts, "company")?;
    let row = routes::find(call, Company::definition(), &id.to_string())?;
    let company: &Company = row.cast().ok_or_else(Problem::not_found)?;
    if company.kind != CompanyKind::Vpbx {
        return Err(Problem::bad("company: only vPBX clients have users"));
    }
    let mistakes =
        |line: &Line| if line.cells.len() == COLUMNS { Given::read(line).mistakes() } else { Vec::new() };
    let form = Form { header: &|_| false, whole: &check, line: &mistakes };
    let lines = match bulk::lines_of(&text, Dialect::default(), &form) {
        Ok(lines) => lines,
        Err(broken) => return Ok(bulk::text_answer(Err(broken))),
    };
    let given: Vec<Given> = lines.iter().map(Given::read).collect();
    let company = company.id;
    let keep = |draft: &mut Draft<'_>, given: &Given| keep_user(draft, company, given);
    Ok(bulk::text_answer(Ok(bulk::keep_each(call, &given, |given| given.line, keep).await?)))
}

/// What is wrong with the file as a whole.
fn check(lines: &[Line]) -> Vec<Wrong> {
    const _: () = assert!(MOST_USERS <= MOST_LINES);
    let mut wrong =
        bulk::uneven(lines, |count| count == COLUMNS, "write 11, and leave empty what is not there");
    let given: Vec<Given> =
        lines.iter().filter(|line| line.cells.len() == COLUMNS).map(Given::read).collect();
    let mut unique = |what: &str, key: fn(&Given) -> String| {
        wrong.extend(bulk::repeated(&given, what, |given| given.line, key));
    };
    unique("name", |given| format!("{} {}", given.name, given.lastname).trim().to_lowercase());
    unique("email", |given| given.email.to_lowercase());
    unique("terminal", |given| given.terminal.clone());
    unique("mac", |given| given.mac.clone());
    unique("extension", |given| given.extension.clone());
    if lines.len() > MOST_USERS {
        let remedy = format!("a file has at most {MOST_USERS} users; send the rest in another");
        wrong.push(Wrong::new(lines.last().map_or(1, |line| line.number), remedy));
    }
    wrong
}

/// Rows that a line names.
#[derive(Debug, Default)]
struct Named {
    model: Option<Id<TerminalModel>>,
    country: Option<Id<Country>>,
    provider: Option<Id<DdiProvider>>,
}

fn named(rows: &Rows, company: &Company, given: &Given) -> Result<Named, Refusal> {
    let mut mistakes = given.mistakes();
    let mut wrong = |field: &str, remedy: String| mistakes.push(Mistake { field: field.to_owned(), remedy });
    let mut named = Named::default();
    if !given.model.is_empty() {
        named.model = rows.find::<TerminalModel>(0, &[Value::Text(&given.model)]).map(|model| model.id);
        if named.model.is_none() {
            wrong("terminal model", format!("there is no model {}", short(&given.model)));
        }
    }
    named.country = match given.country.as_str() {
        "" => Some(company.country),
        code => match country(rows, code) {
            Ok(country) => Some(country),
            Err(remedy) => {
                wrong("ddi country", remedy);
                None
            }
        },
    };
    if !given.provider.is_empty() {
        let provider = [Value::Text(&given.provider), Value::Int(i64::from(company.brand.get()))];
        named.provider = rows.find::<DdiProvider>(0, &provider).map(|provider| provider.id);
        if named.provider.is_none() {
            wrong("ddi provider", format!("this brand has no DDI provider {}", short(&given.provider)));
        }
    }
    if mistakes.is_empty() { Ok(named) } else { Err(Refusal::Invalid(mistakes)) }
}

/// A country by its ISO code or its calling code.
fn country(rows: &Rows, code: &str) -> Result<Id<Country>, String> {
    if checks::digits(code.trim_start_matches('+')) {
        return bulk::country(rows, code, "");
    }
    let country = rows.each::<Country>().find(|country| country.code.eq_ignore_ascii_case(code));
    country.map(|country| country.id).ok_or_else(|| {
        format!(
            "there is no country {}; write its ISO code, like ES, or its calling code, like +34",
            short(code)
        )
    })
}

fn keep_user(draft: &mut Draft<'_>, company: Id<Company>, given: &Given) -> Result<(), Refusal> {
    let company = draft.get(company).ok_or(Refusal::Gone)?.clone();
    let named = named(draft.rows(), &company, given)?;
    let known = known_user(draft.rows(), &company, given);
    let terminal = keep_terminal(draft, &company, given, &named)?;
    let ddi = keep_ddi(draft, &company, given, &named)?;
    let fill = |user: &mut User| {
        (user.name, user.lastname) = (given.name.clone(), given.lastname.clone());
        if !given.email.is_empty() {
            user.email = Some(given.email.clone());
        }
        user.terminal = terminal.or(user.terminal);
        user.outgoing_ddi = ddi.or(user.outgoing_ddi);
    };
    let id = match known {
        Some(id) => {
            draft.change(id, fill)?;
            id
        }
        None => {
            let mut user = User { company: company.id, location: company.location, ..User::default() };
            fill(&mut user);
            draft.create(user)?
        }
    };
    if let Some(extension) = keep_extension(draft, &company, given, id)? {
        draft.change(id, |user| user.extension = Some(extension))?;
    }
    Ok(())
}

/// The client's user with this name, or else with this address.
fn known_user(rows: &Rows, company: &Company, given: &Given) -> Option<Id<User>> {
    let users = || rows.of::<User>("company", company.id.get());
    let same_name = |user: &&User| {
        user.name.eq_ignore_ascii_case(&given.name) && user.lastname.eq_ignore_ascii_case(&given.lastname)
    };
    let same_address = |user: &&User| {
        !given.email.is_empty()
            && user.email.as_deref().is_some_and(|email| email.eq_ignore_ascii_case(&given.email))
    };
    users().find(same_name).or_else(|| users().find(same_address)).map(|user| user.id)
}

fn keep_terminal(
    draft: &mut Draft<'_>,
    company: &Company,
    given: &Given,
    named: &Named,
) -> Result<Option<Id<Terminal>>, Refusal> {
    if given.terminal.is_empty() {
        return Ok(None);
    }
    let terminals = || draft.rows().of::<Terminal>("company", company.id.get());
    let same_mac =
        |terminal: &&Terminal| !given.mac.is_empty() && terminal.mac.as_deref() == Some(given.mac.as_str());
    let known =
        terminals().find(|terminal| terminal.name == given.terminal).or_else(|| terminals().find(same_mac));
    let known = known.map(|terminal| terminal.id);
    let fill = |terminal: &mut Terminal| {
        terminal.name.clone_from(&given.terminal);
        if !given.password.is_empty() {
            terminal.password = Secret::new(given.password.as_str());
        }
        if !given.mac.is_empty() {
            terminal.mac = Some(given.mac.clone());
        }
        terminal.terminal_model = named.model.or(terminal.terminal_model);
    };
    if let Some(id) = known {
        draft.change(id, fill)?;
        return Ok(Some(id));
    }
    let password = Secret::new(new_password(draft.env().random));
    let mut terminal =
        Terminal { company: company.id, domain: company.domain, password, ..Terminal::default() };
    fill(&mut terminal);
    draft.create(terminal).map(Some)
}

fn keep_extension(
    draft: &mut Draft<'_>,
    company: &Company,
    given: &Given,
    user: Id<User>,
) -> Result<Option<Id<Extension>>, Refusal> {
    if given.extension.is_empty() {
        return Ok(None);
    }
    let key = [Value::Int(i64::from(company.id.get())), Value::Text(&given.extension)];
    let Some(known) = draft.rows().find::<Extension>(0, &key) else {
        let number = given.extension.clone();
        let route_type = Some(ExtensionRouteType::User);
        let extension =
            Extension { company: company.id, number, route_type, user: Some(user), ..Extension::default() };
        return draft.create(extension).map(Some);
    };
    if known.route_type.is_some_and(|route| route != ExtensionRouteType::User) {
        let remedy = format!("{} is there and leads elsewhere; change it there", given.extension);
        return Err(Refusal::wrong("extension", remedy));
    }
    let id = known.id;
    draft.change(id, |extension| {
        (extension.route_type, extension.user) = (Some(ExtensionRouteType::User), Some(user));
    })?;
    Ok(Some(id))
}

fn keep_ddi(
    draft: &mut Draft<'_>,
    company: &Company,
    given: &Given,
    named: &Named,
) -> Result<Option<Id<Ddi>>, Refusal> {
    let (false, Some(country)) = (given.ddi.is_empty(), named.country) else { return Ok(None) };
    let key = [Value::Text(&given.ddi), Value::Int(i64::from(country.get()))];
    let Some(known) = draft.rows().find::<Ddi>(0, &key) else {
        let (ddi, country) = (given.ddi.clone(), Some(country));
        let provider = named.provider;
        let owner = Some(company.id);
        let row = Ddi {
            ddi,
            country,
            company: owner,
            brand: company.brand,
            ddi_provider: provider,
            ..Ddi::default()
        };
        return draft.create(row).map(Some);
    };
    let free = known.brand == company.brand && known.company.is_none_or(|owner| owner == company.id);
    if !free {
        return Err(Refusal::wrong("ddi", format!("{} is not free", given.ddi)));
    }
    let id = known.id;
    draft.change(id, |ddi| {
        ddi.company = Some(company.id);
        ddi.ddi_provider = named.provider.or(ddi.ddi_provider);
    })?;
    Ok(Some(id))
}

/// A password that a terminal may have and nobody can guess.
fn new_password(random: &dyn Fn() -> u64) -> String {
    const SETS: [(&[u8], usize); 4] =
        [(b"ABCDEFGHJKLMNPQRSTUVWXYZ", 7), (b"abcdefghijkmnopqrstuvwxyz", 7), (b"23456789", 6), (b"+*_-", 1)];
    let below = |most: usize| usize::try_from(random() % most as u64).unwrap_or(0);
    let mut characters: Vec<char> = Vec::new();
    for (set, count) in SETS {
        characters.extend((0..count).map(|_| char::from(set[below(set.len())])));
    }
    for place in (1..characters.len()).rev() {
        characters.swap(place, below(place + 1));
    }
    characters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::sheet;
    use super::*;
    use std::cell::Cell;
    use std::sync::Arc;

    fn lines(text: &str) -> Vec<Line> {
        sheet::read(text, Dialect::default(), 100).unwrap()
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = "Name,Lastname,name@example.com,desk,Z7+KJn8m3k,Model,A0:00-00.00 0052,2002,ES,946002050,Provider";
        let given = Given::read(&lines(line)[0]);
        assert_eq!(given.mac, "a00000000052");
        assert_eq!(given.mistakes(), []);
        assert_eq!(Given::read(&lines("Jane,Doe,,,,,,,,,")[0]).mistakes(), []);
    }

    #[test]
    fn all_mistakes_of_a_line_are_said() {
        let given = Given::read(&lines(",,x,a b,short,,12,x,ES,+34,")[0]);
        let fields: Vec<String> = given.mistakes().into_iter().map(|mistake| mistake.field).collect();
        let expected =
            ["name", "lastname", "email", "terminal", "terminal password", "mac", "extension", "ddi"];
        assert_eq!(fields, expected);
        let alone = Given::read(&lines("Jane,Doe,,,,Model,,,,,")[0]).mistakes();
        assert_eq!(alone[0].remedy, "write its name, too");
    }

    #[test]
    fn a_ddis_country_is_told_by_its_iso_code_or_its_calling_code() {
        let mut rows = Rows::default();
        for (id, code, calling_code) in [(1, "ES", "+34"), (2, "CA", "+1"), (3, "US", "+1")] {
            let (code, country_code) = (code.to_owned(), Some(calling_code.to_owned()));
            rows.insert(Arc::new(Country { id: Id::new(id), code, country_code, ..Country::default() }));
        }
        let found = |text: &str| country(&rows, text).map(Id::get).ok();
        for (text, id) in [("ES", 1), ("es", 1), ("+34", 1), ("34", 1), ("+1", 2), ("us", 3)] {
            assert_eq!(found(text), Some(id), "{text}");
        }
        for wrong in ["FR", "+33", "33", "+", "3 4"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        let company = Company { country: Id::new(1), ..Company::default() };
        let given = Given::read(&lines("Jane,Doe,,,,,,,+1,5550100,")[0]);
        assert_eq!(named(&rows, &company, &given).unwrap().country, Some(Id::new(2)));
    }

    #[test]
    fn what_stands_twice_in_a_file_is_said_with_both_lines() {
        let wrong = check(&lines("A,B,x@y.z,t,,,aa,1,,,\na,b,X@y.z,t,,,AA,1,,,\nC,D"));
        let said = bulk::as_text(&wrong);
        assert_eq!(wrong.len(), 6, "{said}");
        assert!(said.contains("2 => extension \"1\" is in line 1 already"), "{said}");
        assert!(said.contains("3 => it has 2 cells"), "{said}");
    }

    #[test]
    fn new_passwords_are_good_ones() {
        let state = Cell::new(1_u64);
        let random = || {
            state.set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            state.get() >> 16
        };
        let passwords: Vec<String> = (0..50).map(|_| new_password(&random)).collect();
        for password in &passwords {
            assert_eq!(checks::sip_password_fault(password), None, "{password}");
            assert!(password.len() <= 25);
        }
        assert_ne!(passwords[0], passwords[1]);
    }
}
