"""Between the contract (wit/, world `filtering`) and the decision: what the host asks is answered by decision.py."""

# Made by componentize-py from the contract.
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host
from wit_world.imports.types import Container, Image, Pod, Verdict, Verdict_Ignore, Verdict_Pass

from decision import read, reason


class Check(exports.Check):
    def check(self) -> None:
        try:
            read(host.settings())
        except ValueError as problem:
            # An Err is the contract's error; anything else that is raised would be a trap.
            raise Err(str(problem)) from problem


class Filter(exports.Filter):
    def filter(self, pod: Pod, container: Container, image: Image) -> Verdict:
        why = reason(read(host.settings()), pod.namespace())
        return Verdict_Pass() if why is None else Verdict_Ignore(why)
