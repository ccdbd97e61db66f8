//! What the documents say of operations of their own: one entry for each, found by method, path and level.
//!
//! Beside the operations rather than in them: what an operation does and how it is told can change apart. An entry without
//! an operation is not shown; an operation without an entry fails a test. Elsewhere: the operations (`custom`), logins
//! (`auth`).

use super::schemas::{self, View};
use super::shapes::{
    RANGE, account, brand_of_dashboard, calls, client_dashboard, count, done, flag, grants, imported, list,
    logged, nothing, object, or_null, profile_body, range_body, range_days, rating_body, registered, routed,
    simulation, status, text, texts, token, tokens,
};
use model::define::Level::{self, Brand, Client, Platform, User};
use serde_json::{Value as Json, json};

/// One operation, as documents tell of it.
pub(super) struct OperationDocs {
    pub(super) method: &'static str,
    /// As in `custom`: `{}` stands for one segment.
    pub(super) path: &'static str,
    pub(super) levels: &'static [Level],
    pub(super) summary: &'static str,
    /// The names of the open segments; `id` where there are none.
    pub(super) open: &'static [&'static str],
    pub(super) query: &'static [Part],
    pub(super) body: Takes,
    pub(super) status: u16,
    pub(super) answer: Gives,
    /// Other answers than the good one, 401 and 403.
    pub(super) also: &'static [u16],
    pub(super) anonymous: bool,
}

/// A parameter of a query or a form.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    pub(super) required: bool,
    pub(super) docs: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Holds {
    Id,
    Whole(u32, u32),
    Text(&'static str),
    Choice(&'static [&'static str]),
    File,
}

/// What an operation reads.
pub(super) enum Takes {
    Nothing,
    /// A list of ids.
    Ids,
    /// A form.
    Form(&'static [Part]),
    /// A form with a file.
    Upload(&'static [Part]),
    /// The body that makes a row.
    Row(&'static str),
    Object(fn() -> Json),
}

/// What an operation answers.
pub(super) enum Gives {
    /// A row as this view shows it.
    Row(&'static str, View, bool),
    /// Rows as lists show them, with filters.
    Rows(&'static str, View, bool, Paged),
    /// Some fields of a row, or all where none are named, and what is shown beside them.
    Part(&'static str, &'static [&'static str], bool, fn() -> Json),
    /// The same of many.
    Parts(&'static str, &'static [&'static str], bool, Paged, fn() -> Json),
    /// A page of such objects, as JSON or comma-separated values.
    Page(fn() -> Json),
    Object(fn() -> Json),
    Binary(&'static str),
    Text(&'static str),
    Nothing,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Paged {
    Yes,
    No,
}

const ALL: &[Level] = &[Platform, Brand, Client, User];
const ADMINS: &[Level] = &[Platform, Brand, Client];

const fn get(
    path: &'static str,
    levels: &'static [Level],
    summary: &'static str,
    answer: Gives,
) -> OperationDocs {
    OperationDocs {
        method: "GET",
        path,
        levels,
        summary,
        open: &["id"],
        query: &[],
        body: Takes::Nothing,
        status: 200,
        answer,
        also: &[],
        anonymous: false,
    }
}

const fn post(
    path: &'static str,
    levels: &'static [Level],
    summary: &'static str,
    body: Takes,
    answer: Gives,
) -> OperationDocs {
    OperationDocs { method: "POST", body, ..get(path, levels, summary, answer) }
}

impl OperationDocs {
    const fn query(mut self, query: &'static [Part]) -> Self {
        self.query = query;
        self
    }

    const fn also(mut self, also: &'static [u16]) -> Self {
        self.also = also;
        self
    }

    const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    const fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    const fn open(mut self, open: &'static [&'static str]) -> Self {
        self.open = open;
        self
    }

    const fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }
}

const fn part(name: &'static str, holds: Holds, docs: &'static str) -> Part {
    Part { name, holds, required: false, docs }
}

const fn needed(name: &'static str, holds: Holds, docs: &'static str) -> Part {
    Part { name, holds, required: true, docs }
}

const ALSO_CHOSEN: Part = part("_includeId", Holds::Id, "A row that is shown although it is not free.");
const BALANCE: &[Part] = &[
    needed("operation", Holds::Choice(&["increment", "decrement"]), "Whether money is added or taken away."),
    needed("amount", Holds::Text("10.5"), "How much: more than 0, with four decimal places at most."),
];
const SIMULATED: &[Part] = &[
    needed("number", Holds::Text("+34946002050"), "The number that would be called, with its country."),
    needed("duration", Holds::Whole(1, 86_400), "Seconds that the call would last."),
];
const ROUTED: &[Part] = &[
    needed(
        "endpoint",
        Holds::Text("user:anna@example.com"),
        "What of the client calls: user:EMAIL, friend:NAME, residential:NAME, retail:NAME, fax:NAME, each with an id in place of \
         the name, or wholesale.",
    ),
    needed("number", Holds::Text("946002050"), "What is dialled, as the endpoint would dial it."),
    part("caller", Holds::Text("946002051"), "The number that the endpoint would tell as its own."),
    part(
        "at",
        Holds::Text("2026-01-31 12:00:00"),
        "When, in the caller's time zone; now, unless told otherwise.",
    ),
    part("duration", Holds::Whole(1, 86_400), "Seconds that it would be talked; 300, unless told otherwise."),
];
const CSV: Part = needed("csv", Holds::File, "Comma-separated values, in UTF-8.");
const REFUSED_TOKEN: &[u16] = &[400, 401, 403, 404];

/// Everything that is told.
pub(super) const OPERATIONS: &[OperationDocs] = &[
    // Tokens.
    post(
        "admin_login",
        ADMINS,
        "Logs an administrator in",
        Takes::Form(&[
            needed("username", Holds::Text("admin"), "The administrator's name."),
            needed("password", Holds::Text("changeme"), "The password."),
        ]),
        Gives::Object(tokens),
    )
    .also(&[401, 413, 429, 503])
    .anonymous(),
    post(
        "user_login",
        &[User],
        "Logs a user in",
        Takes::Form(&[
            needed("email", Holds::Text("alice@example.com"), "The user's e-mail address."),
            needed("password", Holds::Text("changeme"), "The password."),
        ]),
        Gives::Object(tokens),
    )
    .also(&[401, 413, 429, 503])
    .anonymous(),
    post(
        "token/refresh",
        ALL,
        "Gives a new token for a refresh token, which works once",
        Takes::Form(&[needed(
            "refresh_token",
            Holds::Text("nNQ…"),
            "The refresh token of the last login or refresh.",
        )]),
        Gives::Object(tokens),
    )
    .also(&[401, 413, 503])
    .anonymous(),
    post(
        "token/revoke",
        ALL,
        "Ends the login of a refresh token",
        Takes::Form(&[needed("refresh_token", Holds::Text("nNQ…"), "The refresh token that is to end.")]),
        Gives::Nothing,
    )
    .status(204)
    .also(&[400, 413, 503])
    .anonymous(),
    post(
        "token/exchange",
        &[Brand],
        "Gives a token of a brand for one of the platform",
        Takes::Form(&[
            needed("token", Holds::Text("eyJ…"), "A token of the platform."),
            part(
                "username",
                Holds::Text("test_brand_admin"),
                "The administrator to become; or name the brand.",
            ),
            part("brandId", Holds::Id, "The brand whose internal administrator to become."),
        ]),
        Gives::Object(token),
    )
    .also(REFUSED_TOKEN)
    .anonymous(),
    post(
        "token/exchange",
        &[Client],
        "Gives a token of a client for one of its brand",
        Takes::Form(&[
            needed("token", Holds::Text("eyJ…"), "A token of the brand."),
            part(
                "username",
                Holds::Text("test_company_admin"),
                "The administrator to become; or name the client.",
            ),
            part("clientId", Holds::Id, "The client whose internal administrator to become."),
        ]),
        Gives::Object(token),
    )
    .also(REFUSED_TOKEN)
    .anonymous(),
    post(
        "token/exchange",
        &[User],
        "Gives a token of a user for one of the client",
        Takes::Form(&[
            needed("token", Holds::Text("eyJ…"), "A token of the client."),
            needed("username", Holds::Text("alice@example.com"), "The e-mail address of the user to become."),
        ]),
        Gives::Object(token),
    )
    .also(REFUSED_TOKEN)
    .anonymous(),
    get(
        "my/theme",
        ALL,
        "What the web portal of the request's host looks like",
        Gives::Object(|| {
            texts(&[
                ("name", "Its name."),
                ("logo", "Where its logo is."),
                ("color", "Its colour."),
                ("title", "The title of its pages."),
                ("productName", "What the product is called there."),
            ])
        }),
    )
    .also(&[404])
    .anonymous(),
    get("my/logo/{}/{}", ALL, "The logo of a web portal", Gives::Binary("image/*"))
        .open(&["id", "name"])
        .also(&[404])
        .anonymous(),
    // Oneself.
    get(
        "my/profile",
        &[Platform],
        "Restrictions and grants of one's own account",
        Gives::Object(|| object(&[("restricted", flag()), ("canImpersonate", flag()), ("acls", grants())])),
    )
    .also(&[404]),
    get(
        "my/profile",
        &[Brand],
        "Restrictions, grants and features of one's own account",
        Gives::Object(|| {
            object(&[
                ("restricted", flag()),
                ("canImpersonate", flag()),
                ("acls", grants()),
                ("features", list(text())),
            ])
        }),
    )
    .also(&[404]),
    get(
        "my/profile",
        &[Client],
        "Restrictions, grants and features of one's own account",
        Gives::Object(|| {
            object(&[
                ("restricted", flag()),
                ("vpbx", flag()),
                ("residential", flag()),
                ("retail", flag()),
                ("wholesale", flag()),
                ("billingInfo", flag()),
                ("defaultCountryId", or_null(count())),
                ("defaultLocationId", or_null(count())),
                ("acls", grants()),
                ("features", list(text())),
            ])
        }),
    )
    .also(&[404]),
    get("my/profile", &[User], "One's own profile", Gives::Part("User", PROFILE, true, nothing)).also(&[404]),
    post(
        "my/profile",
        &[User],
        "Changes one's own profile",
        Takes::Object(profile_body),
        Gives::Part("User", PROFILE, false, nothing),
    )
    .method("PUT")
    .also(&[400, 404, 413, 422, 429, 503]),
    get(
        "my/dashboard",
        &[Platform],
        "What there is and what came last",
        Gives::Object(|| {
            object(&[
                ("admin", texts(&[("username", ""), ("name", ""), ("lastname", ""), ("email", "")])),
                ("recentActivity", list(brand_of_dashboard(false))),
                ("brandNumber", count()),
                ("clientNumber", count()),
                ("userNumber", count()),
                ("productName", text()),
            ])
        }),
    )
    .also(&[404]),
    get(
        "my/dashboard",
        &[Brand],
        "What there is and what came last",
        Gives::Object(|| {
            object(&[
                ("brand", brand_of_dashboard(true)),
                (
                    "recentActivity",
                    list(object(&[
                        ("name", text()),
                        ("type", text()),
                        ("domainUsers", text()),
                        ("maxCalls", count()),
                    ])),
                ),
                ("clientNum", count()),
                ("ddiNum", count()),
                ("carrierNum", count()),
                ("productName", text()),
            ])
        }),
    )
    .also(&[404]),
    get("my/dashboard", &[Client], "What there is and what came last", Gives::Object(client_dashboard))
        .also(&[404]),
    get(
        "my/dashboard",
        &[User],
        "Who one is",
        Gives::Object(|| {
            texts(&[
                ("userName", ""),
                ("userLastName", ""),
                ("extension", ""),
                ("terminal", ""),
                ("email", ""),
                ("outgoingDdi", ""),
                ("productName", ""),
            ])
        }),
    )
    .also(&[404]),
    get("my/active_calls", &[Platform], "How many calls go on now", Gives::Object(calls))
        .query(&[part("brand", Holds::Id, "Only those of this brand.")])
        .also(&[400, 422]),
    get("my/active_calls", &[Brand], "How many calls go on now", Gives::Object(calls))
        .query(&[part("company", Holds::Id, "Only those of this client.")])
        .also(&[400, 422]),
    get("my/active_calls", &[Client], "How many calls go on now", Gives::Object(calls)),
    get(
        "my/active_calls/realtime_filter",
        ADMINS,
        "The name of the feed of calls as they go on",
        Gives::Object(|| {
            texts(&[("criteria", "The name of the feed; nothing comes of one that ends in -1.")])
        }),
    )
    .query(&[
        part("b", Holds::Id, "Calls of this brand."),
        part("c", Holds::Id, "Calls of this client."),
        part("cr", Holds::Id, "Calls of this carrier."),
        part("dp", Holds::Id, "Calls of this DDI provider."),
        part("direction", Holds::Choice(&["inbound", "outbound"]), "Calls that go this way."),
    ])
    .also(&[400, 404]),
    get(
        "my/registration_summary",
        &[Brand],
        "How many telephones are registered",
        Gives::Object(|| object(&[("active", count()), ("total", count()), ("percent", count())])),
    )
    .query(&[part("company", Holds::Id, "Only those of this client.")])
    .also(&[400, 422]),
    get("my/status", &[User], "One's telephone and what it is set up with", Gives::Object(status))
        .also(&[404]),
    get(
        "my/call_stats",
        &[User],
        "How many calls and forwardings one has",
        Gives::Object(|| object(&[("totalCalls", count()), ("totalDetours", count())])),
    ),
    get("my/last_month_calls", &[User], "How many calls one had within a month", Gives::Object(calls)),
    get("my/call_history", &[User], "One's calls", Gives::Rows("UsersCdr", View::List, false, Paged::Yes))
        .also(&[400, 404]),
    get(
        "my/call_forward_settings",
        &[User],
        "One's call forwardings",
        Gives::Rows("CallForwardSetting", View::Detail, true, Paged::Yes),
    )
    .also(&[400, 404]),
    post(
        "my/call_forward_settings",
        &[User],
        "Adds to one's call forwardings",
        Takes::Row("CallForwardSetting"),
        Gives::Row("CallForwardSetting", View::Detail, true),
    )
    .status(201)
    .also(&[400, 404, 413, 422, 503]),
    get(
        "my/company_assistants",
        &[User],
        "Who can be one's assistant",
        Gives::Parts("User", COLLEAGUE, false, Paged::Yes, nothing),
    )
    .also(&[400, 404]),
    get(
        "my/company_voicemails",
        &[User],
        "Voicemails that calls can be forwarded to",
        Gives::Rows("Voicemail", View::List, false, Paged::Yes),
    )
    .also(&[400, 404]),
    get(
        "my/company_extensions",
        &[User],
        "Extensions that calls can be forwarded to",
        Gives::Rows("Extension", View::List, false, Paged::Yes),
    )
    .also(&[400, 404]),
    get(
        "my/extensions",
        &[User],
        "Extensions that calls can be forwarded to",
        Gives::Rows("Extension", View::List, false, Paged::Yes),
    )
    .also(&[400, 404]),
    get(
        "my/company_country",
        &[User],
        "The country of one's client",
        Gives::Row("Country", View::Detail, true),
    )
    .also(&[404]),
    get(
        "my/voicemail",
        &[User],
        "Voicemails that one listens to",
        Gives::Rows("Voicemail", View::List, false, Paged::Yes),
    )
    .also(&[400]),
    get(
        "voicemails",
        &[User],
        "Voicemails that one listens to",
        Gives::Rows("Voicemail", View::List, false, Paged::Yes),
    )
    .also(&[400]),
    // States.
    get(
        "terminals/status",
        &[Brand],
        "Where terminals are registered",
        Gives::Parts("Terminal", &["name", "id", "company"], false, Paged::Yes, registered),
    )
    .also(&[400]),
    get(
        "terminals/status",
        &[Client],
        "Where terminals are registered",
        Gives::Parts("Terminal", &["name", "id"], false, Paged::Yes, registered),
    )
    .also(&[400]),
    get(
        "friends/status",
        &[Brand],
        "Where friends are registered",
        Gives::Parts("Friend", &["name", "id", "company"], false, Paged::Yes, registered),
    )
    .also(&[400]),
    get(
        "friends/status",
        &[Client],
        "Where friends are registered",
        Gives::Parts("Friend", &["name", "id"], false, Paged::Yes, registered),
    )
    .also(&[400]),
    get(
        "residential_devices/status",
        &[Brand],
        "Where residential devices are registered",
        Gives::Parts(
            "ResidentialDevice",
            &["name", "directConnectivity", "id", "company"],
            false,
            Paged::Yes,
            registered,
        ),
    )
    .also(&[400]),
    get(
        "residential_devices/status",
        &[Client],
        "Where residential devices are registered",
        Gives::Parts(
            "ResidentialDevice",
            &["name", "directConnectivity", "id"],
            false,
            Paged::Yes,
            registered,
        ),
    )
    .also(&[400]),
    get(
        "retail_accounts/status",
        &[Brand],
        "Where retail accounts are registered",
        Gives::Parts(
            "RetailAccount",
            &["name", "description", "directConnectivity", "rtpEncryption", "multiContact", "id", "company"],
            false,
            Paged::Yes,
            registered,
        ),
    )
    .also(&[400]),
    get(
        "retail_accounts/status",
        &[Client],
        "Where retail accounts are registered",
        Gives::Parts(
            "RetailAccount",
            &["name", "description", "directConnectivity", "id"],
            false,
            Paged::Yes,
            registered,
        ),
    )
    .also(&[400]),
    get(
        "terminals/{}/status",
        &[Client],
        "Where a terminal is registered",
        Gives::Part("Terminal", &["name", "id"], false, registered),
    )
    .also(&[404]),
    get(
        "friends/{}/status",
        &[Client],
        "Where a friend is registered",
        Gives::Part("Friend", &["name", "id"], false, registered),
    )
    .also(&[404]),
    get(
        "residential_devices/{}/status",
        &[Client],
        "Where a residential device is registered",
        Gives::Part("ResidentialDevice", &["name", "directConnectivity", "id"], false, registered),
    )
    .also(&[404]),
    get(
        "retail_accounts/{}/status",
        &[Client],
        "Where a retail account is registered",
        Gives::Part("RetailAccount", &["name", "description", "directConnectivity", "id"], false, registered),
    )
    .also(&[404]),
    get(
        "carrier_servers/{}/status",
        &[Brand],
        "Whether a carrier's server answers",
        Gives::Part(
            "CarrierServer",
            &["ip", "hostname", "authNeeded", "sipProxy", "id"],
            false,
            || json!({ "status": schemas::living("carrierServer") }),
        ),
    )
    .also(&[404]),
    get(
        "ddi_provider_registrations/{}/status",
        &[Brand],
        "Whether a registration with a DDI provider holds",
        Gives::Part(
            "DdiProviderRegistration",
            &["username", "domain", "id"],
            false,
            || json!({ "status": schemas::living("ddiProviderRegistration") }),
        ),
    )
    .also(&[404]),
    get(
        "companies/balances",
        &[Brand],
        "Clients with their balances",
        Gives::Parts("Company", &[], false, Paged::Yes, account),
    )
    .also(&[400]),
    get(
        "companies/dailyUsage",
        &[Brand],
        "Clients with what they spent today",
        Gives::Parts("Company", &[], false, Paged::Yes, account),
    )
    .also(&[400]),
    get(
        "companies/{}/balances",
        &[Brand],
        "A client with its balance",
        Gives::Part("Company", &[], true, account),
    )
    .also(&[404]),
    get(
        "companies/{}/dailyUsage",
        &[Brand],
        "A client with what it spent today",
        Gives::Part("Company", &[], true, account),
    )
    .also(&[404]),
    // What is free to be chosen.
    get(
        "services/unassigned",
        &[Brand, Client, User],
        "Services that have no code yet",
        Gives::Rows("Service", View::List, false, Paged::No),
    )
    .query(&[ALSO_CHOSEN])
    .also(&[400]),
    get(
        "terminals/unassigned",
        &[Client],
        "Terminals that no user has",
        Gives::Rows("Terminal", View::List, false, Paged::No),
    )
    .query(&[ALSO_CHOSEN])
    .also(&[400]),
    get(
        "extensions/unassigned",
        &[Client],
        "Extensions that lead nowhere yet",
        Gives::Rows("Extension", View::List, false, Paged::No),
    )
    .query(&[ALSO_CHOSEN, part("_userId", Holds::Id, "Those that lead to this user are shown, too.")])
    .also(&[400]),
    get(
        "companies/corporate/unassigned",
        &[Brand, Client],
        "Clients of the corporation that no friend leads to yet",
        Gives::Parts(
            "Company",
            &["type", "name", "id", "domainName"],
            false,
            Paged::No,
            || json!({ "invoicing": object(&[("nif", text())]) }),
        ),
    )
    .query(&[ALSO_CHOSEN, part("_companyId", Holds::Id, "Seen from this client.")])
    .also(&[400, 404]),
    get(
        "hunt_groups/{}/users_available",
        &[Client],
        "Users that are not in the hunt group",
        Gives::Rows("User", View::List, false, Paged::No),
    )
    .query(&[ALSO_CHOSEN])
    .also(&[400, 404]),
    get(
        "users/detailed",
        &[Client],
        "Users with terminal, extension and location",
        Gives::Parts(
            "User",
            &["name", "lastname", "email", "id", "terminal", "extension", "location"],
            true,
            Paged::Yes,
            nothing,
        ),
    )
    .also(&[400]),
    // Many at once.
    post(
        "users/mass_import",
        &[Brand],
        "Adds users with terminals, extensions and DDIs",
        Takes::Upload(&[needed("company", Holds::Id, "The client that gets them."), CSV]),
        Gives::Object(imported),
    )
    .status(201)
    .also(&[400, 404, 413, 415, 503]),
    post(
        "extensions/mass_import",
        &[Client],
        "Adds extensions that lead to numbers",
        Takes::Upload(&[CSV]),
        Gives::Object(imported),
    )
    .status(201)
    .also(&[400, 404, 413, 415, 503]),
    post(
        "holiday_dates/mass_import",
        &[Client],
        "Adds events to a calendar",
        Takes::Upload(&[
            needed("calendar", Holds::Id, "The calendar."),
            CSV,
            part(
                "importerArguments",
                Holds::Text("{}"),
                "JSON: `delimiter`, `enclosure`, `escape`, `columns`, `ignoreFirst`.",
            ),
        ]),
        Gives::Object(imported),
    )
    .status(201)
    .also(&[400, 404, 413, 415, 503]),
    post(
        "holiday_dates_range",
        &[Client],
        "Adds one event for each day of a range",
        Takes::Object(range_body),
        Gives::Part("HolidayDate", RANGE, false, range_days),
    )
    .status(201)
    .also(&[400, 404, 413, 422, 503]),
    post("ddis/unlink", &[Brand], "Takes DDIs from their clients", Takes::Ids, Gives::Object(done))
        .also(&[400, 404, 413, 422, 503]),
    post(
        "administrators/{}/grant_all",
        &[Platform, Brand],
        "Lets a restricted administrator do everything with these kinds of rows",
        Takes::Ids,
        Gives::Row("Administrator", View::Detail, true),
    )
    .also(&[400, 404, 413, 503]),
    post(
        "administrators/{}/grant_read_only",
        &[Platform, Brand],
        "Lets a restricted administrator read these kinds of rows",
        Takes::Ids,
        Gives::Row("Administrator", View::Detail, true),
    )
    .also(&[400, 404, 413, 503]),
    post(
        "administrators/{}/revoke_all",
        &[Platform, Brand],
        "Takes these grants from a restricted administrator",
        Takes::Ids,
        Gives::Row("Administrator", View::Detail, true),
    )
    .also(&[400, 404, 413, 503]),
    // Money.
    post(
        "companies/{}/modify_balance",
        &[Brand],
        "Adds to a client's balance or takes from it",
        Takes::Form(BALANCE),
        Gives::Row("Company", View::Detail, true),
    )
    .status(201)
    .also(&[400, 404, 413, 503]),
    post(
        "carriers/{}/modify_balance",
        &[Brand],
        "Adds to a carrier's balance or takes from it",
        Takes::Form(BALANCE),
        Gives::Row("Carrier", View::Detail, true),
    )
    .status(201)
    .also(&[400, 404, 413, 503]),
    post(
        "rating_plan_groups/{}/simulate_call",
        &[Brand],
        "What a call would cost",
        Takes::Form(SIMULATED),
        Gives::Object(simulation),
    )
    .also(&[400, 404, 413, 501]),
    post(
        "rating_profiles/{}/simulate_call",
        &[Brand, Client],
        "What a call would cost",
        Takes::Form(SIMULATED),
        Gives::Object(simulation),
    )
    .also(&[400, 404, 413, 501]),
    post(
        "companies/{}/simulate_route",
        &[Brand],
        "What would happen to a call, and why: forms of numbers, patterns, routes, carriers in their order, price and costs. Nobody is \
         called",
        Takes::Form(ROUTED),
        Gives::Object(routed),
    )
    .also(&[400, 404, 413, 501]),
    post(
        "billable_calls/rerate",
        &[Brand],
        "Rates calls anew that are on no invoice",
        Takes::Ids,
        Gives::Object(done),
    )
    .also(&[400, 404, 413, 501, 503]),
    post(
        "billable_calls/{}/rate",
        &[Platform, Brand],
        "Takes over what a call costs from elsewhere",
        Takes::Object(rating_body),
        Gives::Row("BillableCall", View::Changed, false),
    )
    .method("PUT")
    .open(&["callid"])
    .also(&[400, 404, 413, 422, 503]),
    get(
        "rating_plan_groups/{}/prices",
        &[Client, User],
        "Prices as comma-separated values",
        Gives::Text("text/csv"),
    )
    .also(&[404]),
    get(
        "audit_log",
        &[Platform, Brand],
        "Who changed what: the newest first, secrets masked; at the brands' level changes of the brand's own rows. The pages of one \
         request are of at most 5000 changes: where there is more to look at, the header X-Older-Than says from where, to be sent as \
         `older_than`, even where nothing was found so far",
        Gives::Page(logged),
    )
    .query(&[
        part("entity", Holds::Text("Carrier"), "Only changes of this kind of rows."),
        part("id", Holds::Id, "Only changes of this row; needs `entity`."),
        part("who", Holds::Text("admin"), "Only what the account of this name did."),
        part("from", Holds::Text("2026-01-31 00:00:00"), "From this moment on, in the caller's time zone."),
        part("to", Holds::Text("2026-01-31 23:59:59"), "Up to this moment."),
        part("older_than", Holds::Text("57.210"), "Only what is older: the header X-Older-Than of the answer before."),
    ])
    .also(&[400, 501, 503]),
    // Files that are made, and jobs.
    get(
        "recordings/recorded_files_zip",
        &[Client, User],
        "Recordings as one archive",
        Gives::Binary("application/zip"),
    )
    .query(&[part("_recordingIds", Holds::Text("1,2"), "Which recordings: ids with commas between them.")])
    .also(&[400, 404, 413]),
    get(
        "invoice_templates/{}/preview",
        &[Platform, Brand],
        "An invoice template as it would look",
        Gives::Binary("application/pdf"),
    )
    .also(&[404, 501]),
    post("invoices/{}/regenerate", &[Brand], "Has an invoice made anew", Takes::Nothing, Gives::Object(done))
        .also(&[400, 404, 501, 503]),
    post(
        "faxes_in_outs/{}/resend",
        &[Client, User],
        "Sends a fax again that could not be sent",
        Takes::Nothing,
        Gives::Object(done),
    )
    .also(&[400, 404, 501, 503]),
    get(
        "terminal_models/{}/default_template",
        &[Platform],
        "The template that a model comes with",
        Gives::Text("text/plain"),
    )
    .query(&[needed(
        "type",
        Holds::Choice(&["generic", "specific"]),
        "For all telephones of the model, or for one.",
    )])
    .also(&[400, 404, 501]),
    get(
        "terminal_models/{}/test_generic_template",
        &[Platform],
        "What all telephones of the model get",
        Gives::Text("text/plain"),
    )
    .also(&[404, 501]),
    get(
        "terminal_models/{}/test_specific_template",
        &[Platform],
        "What one telephone of the model gets",
        Gives::Text("text/plain"),
    )
    .query(&[needed("mac", Holds::Text("0011223344aa"), "The MAC address of its terminal.")])
    .also(&[400, 404, 501]),
    post(
        "banned_addresses/antibruteforce/{}",
        &[Brand],
        "Lets an address in again that guessed passwords",
        Takes::Nothing,
        Gives::Nothing,
    )
    .method("DELETE")
    .status(204)
    .also(&[404, 503]),
];

const PROFILE: &[&str] =
    &["name", "lastname", "email", "doNotDisturb", "isBoss", "maxCalls", "id", "bossAssistant", "timezone"];
const COLLEAGUE: &[&str] = &["name", "lastname", "email", "active", "id", "extension", "status"];

/// What is said of an operation at a level.
pub(super) fn of(method: &str, path: &str, level: Level) -> Option<&'static OperationDocs> {
    OPERATIONS.iter().find(|docs| docs.method == method && docs.path == path && docs.levels.contains(&level))
}
