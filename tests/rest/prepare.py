"""Before and after a run of generated requests.

`prepare.py URL DIR`: waits for the server, checks the documents of all levels, logs in, and writes DOCUMENT, TOKEN and the
tester's id of each level to DIR. `prepare.py URL DIR LEVEL`: checks that the level's tester still has an account: answers
of 401 would fit the documents and show nothing.
"""

import base64
import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator

TESTERS = {
    "platform": ("admin_login", {"username": "admin", "password": "changeme"}),
    "brand": ("admin_login", {"username": "test_brand_admin", "password": "changeme"}),
    "client": ("admin_login", {"username": "test_company_admin", "password": "changeme"}),
    "user": ("user_login", {"email": "alice@democompany.com", "password": "changeme"}),
}


def fetch(url, form=None, headers=None):
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=30) as answer:
        return json.load(answer)


def patiently(url):
    for _ in range(300):
        try:
            return fetch(url)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    return fetch(url)


def check(level, base):
    for version, validator in (("2", OpenAPIV2SpecValidator), ("3", OpenAPIV31SpecValidator)):
        document = patiently(f"{base}/docs.json?spec_version={version}")
        wrong = [str(error).splitlines()[0] for error in validator(document).iter_errors()]
        if wrong:
            sys.exit(f"the document of {level}, version {version}, is not valid: {wrong[:5]}")
    return document


def main(url, directory, *level):
    directory = pathlib.Path(directory)
    if level:
        token = (directory / f"{level[0]}.token").read_text()
        fetch(f"{url}/api/{level[0]}/my/profile", headers={"Authorization": f"Bearer {token}"})
        return
    for level, (path, account) in TESTERS.items():
        base = f"{url}/api/{level}"
        (directory / f"{level}.json").write_text(json.dumps(check(level, base)))
        token = fetch(f"{base}/{path}", account)["token"]
        (directory / f"{level}.token").write_text(token)
        claims = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        (directory / f"{level}.id").write_text(str(claims["id"]))


main(*sys.argv[1:])
