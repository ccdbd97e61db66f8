"""What the generator is told beyond the documents.

Ids are made small, so that many of them are those of rows. Requests that would end the tester's own account are turned to
another one's: all that came after would be 401, which the documents tell of, and show nothing. Time zones are those that there
are, mostly.
"""

import os

import schemathesis

TESTER = int(os.environ.get("TESTER", "0"))
# Rows of the sample system have small ids; a few more are those of no row.
IDS = 12
# Names of time zones; the last one is none.
ZONES = ["Europe/Madrid", "UTC", "America/New_York", "Mars/Phobos"]
# The greatest limit of a number that is no id.
GREATEST = 1_000_000


def smaller(value):
    """Numbers that are greater than any limit but an id's become ids; lists of them, too."""
    if isinstance(value, list):
        return [smaller(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > GREATEST:
        return value % IDS
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    own = "/administrators/{id}" in case.path

    def other(number):
        number = smaller(number)
        return TESTER + 1 if own and str(number) == str(TESTER) else number

    if isinstance(case.path_parameters, dict) and "id" in case.path_parameters:
        case.path_parameters["id"] = other(case.path_parameters["id"])
    if isinstance(case.query, dict):
        if "_timezone" in case.query:
            case.query["_timezone"] = ZONES[len(str(case.query["_timezone"])) % len(ZONES)]
        for name, value in case.query.items():
            if name == "_rmAlso[]" and isinstance(value, list):
                case.query[name] = [other(one) for one in value]
    if isinstance(case.body, dict):
        case.body = {name: smaller(value) for name, value in case.body.items()}
    elif isinstance(case.body, list):
        case.body = smaller(case.body)
