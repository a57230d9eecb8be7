"""Asks PyJWT about tokens that our verifier judged: nothing may be accepted by us that PyJWT refuses.

Reads the lines of `differential` (rust/token/examples) from the file that is its argument. Shares no code with the product.
"""

import collections
import datetime
import json
import sys

import jwt
import jwt.api_jwt

# How far `iat` and `nbf` may lie ahead for us; PyJWT knows one leeway for everything.
AHEAD_SECONDS = 30


class Library:
    """PyJWT, used with the care that its documentation asks for."""

    def __init__(self, told: dict) -> None:
        self.told = told
        self.keys = {told["jwk"]["kid"]: jwt.PyJWK(told["jwk"])}

        class Clock(datetime.datetime):
            """Stands still at the time that was told."""

            @classmethod
            def now(cls, tz=None):
                return cls.fromtimestamp(told["now"], tz)

        if not hasattr(jwt.api_jwt, "datetime"):
            sys.exit("this version of PyJWT takes the time from elsewhere")
        jwt.api_jwt.datetime = Clock

    def refusal(self, token: str) -> Exception | None:
        """Why it refuses `token`; None if it accepts it."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != self.told["typ"]:
                return ValueError("typ")
            key = self.keys.get(header.get("kid"))
            if key is None:
                return ValueError("kid")
            jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=self.told["audience"],
                issuer=self.told["issuer"],
                leeway=self.told["leeway"],
                options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
            )
        except Exception as error:  # whatever it raises is a refusal
            return error
        return None

    def is_explained(self, token: str, refusal: Exception) -> bool:
        """Where the two differ by choice."""
        if not isinstance(refusal, jwt.ImmatureSignatureError):
            return False
        claims = jwt.decode(token, options={"verify_signature": False})
        latest = max(claims["iat"], claims.get("nbf", 0))
        return latest <= self.told["now"] + AHEAD_SECONDS


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        return judge(file)


def judge(lines) -> int:
    library = Library(json.loads(next(lines)))
    tally: collections.Counter[str] = collections.Counter()
    good_token = None
    for line in lines:
        judged = json.loads(line)
        refusal = library.refusal(judged["token"])
        if judged["accepted"] and refusal is None:
            tally["accepted by both"] += 1
            good_token = judged["token"]
        elif judged["accepted"] and library.is_explained(judged["token"], refusal):
            tally["accepted by us alone, explained"] += 1
        elif judged["accepted"]:
            tally["accepted by us alone"] += 1
            print(f"FAIL accepted by us, refused by PyJWT ({refusal!r}): {judged['token']!r}")
        elif refusal is None:
            tally["refused by us alone"] += 1
            tally[f"  {judged['why']}"] += 1
        else:
            tally["refused by both"] += 1
    # A comparison in which nothing is accepted, or the library accepts everything, would say nothing.
    if good_token is None or library.refusal(good_token[:-8]) is None or not tally["refused by both"]:
        print("FAIL the comparison does not work")
        tally["accepted by us alone"] += 1
    for what, count in tally.items():
        print(f"{what}: {count}")
    agreed = sum(count for what, count in tally.items() if not what.startswith(" ")) - tally["accepted by us alone"]
    print(f"PyJWT {jwt.__version__}")
    print(f"{agreed} passed, {tally['accepted by us alone']} failed")
    return 1 if tally["accepted by us alone"] else 0


if __name__ == "__main__":
    sys.exit(main())
