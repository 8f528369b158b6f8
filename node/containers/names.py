"""Names of containers: what is allowed, and those that the server makes up."""

import re
import secrets
from collections.abc import Callable

from lxdnode.node.errors import Invalid, NodeError

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ATTEMPTS = 100
_FIRST = """
able amber apt bold brave brief bright brisk calm clear clever cosmic crisp daring deep eager early easy equal
even fair fast fine firm fit fond free fresh full gentle glad golden grand great happy hardy honest humble
ideal just keen kind large light lively loyal lucid lucky mellow merry mighty modest neat new nice noble open
patient plain polite prime proper proud pure quick quiet rapid ready rich robust safe sharp simple smart
smooth snug sound steady still strong sturdy sunny super sure swift tidy trim true upbeat valid vital vivid
warm whole wise witty young
"""
_SECOND = """
ant badger bat bear beaver bee bison boar buck camel carp cat cheetah civet clam cobra cod condor coral cow
crab crane cricket crow deer dingo dog dolphin donkey dove dragon duck eagle eel egret elk emu falcon ferret
finch fish fox frog gecko gibbon goat goose gopher grouse gull hare hawk hen heron hippo horse hound husky
ibex ibis jackal jaguar jay kite kiwi koala lark lemur leopard lion lizard llama lynx magpie marlin marmot
mink mole moose moth mouse mule newt otter owl ox panda parrot pig pike pony puma quail rabbit ram rat raven
robin seal shark sheep shrew skunk sloth snail snipe sparrow squid stag stork swan tapir tiger toad trout tuna
turtle viper walrus wasp weasel whale wolf wombat worm wren yak zebra
"""


def check(name: str, words: str = "Container name isn't a valid hostname.") -> None:
    """1 to 63 letters, digits and `-`, beginning with a letter and not ending in `-`. NodeError with `words`."""
    if not _NAME.fullmatch(name):
        raise NodeError(words)


def refuse_snapshot(name: str) -> None:
    """Invalid for a name with a slash, which only snapshots have."""
    if "/" in name:
        raise Invalid("Invalid container name: '/' is reserved for snapshots")


def draw(is_taken: Callable[[str], bool]) -> str:
    """Two random words that nobody bears yet."""
    for _ in range(_ATTEMPTS):
        name = f"{secrets.choice(_FIRST.split())}-{secrets.choice(_SECOND.split())}"
        if not is_taken(name):
            return name
    raise NodeError(f"couldn't generate a new unique name after {_ATTEMPTS} tries")
