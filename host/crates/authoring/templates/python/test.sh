#!/bin/sh
# Runs the tests, natively.
set -eu
cd "$(dirname "$0")"
python3 -m unittest
