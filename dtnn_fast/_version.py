# SPDX-License-Identifier: MIT
# The version; in wheels for publication with the build, as in "0.1.0+cpu" or "0.1.0+cu130" (cmake/package_version.py).
__version__ = "0.1.0"
