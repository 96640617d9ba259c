"""The student's input: parameters, digest, and the whole way from a stored cine."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from test_geometry_helpers import SHORT_AXIS, affine_of, stored_otherwise
