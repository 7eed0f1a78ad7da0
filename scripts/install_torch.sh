#!/bin/sh
# Install PyTorch, a CPU build where that is possible, before anything else asks for it.
#
#   install_torch.sh PYTHON REQUIREMENT [INDEX_URL]
#
# 1. A torch that imports is kept, whatever its build.
# 2. With INDEX_URL (https://download.pytorch.org/whl/cpu, say) only that index is asked.
# 3. Where the configured indexes offer a CPU build of the version we test with, it is taken.
# 4. Otherwise pip's own choice for REQUIREMENT.
set -eu

python=$1
requirement=$2
index=${3:-}
tested='torch==2.13.0'

if "$python" -c 'import torch' 2>/dev/null; then
    exit 0
fi

install() {
    "$python" -m pip --disable-pip-version-check install --quiet "$@"
}

if [ -n "$index" ]; then
    echo "installing $requirement from $index"
    install --index-url "$index" "$requirement"
    exit 0
fi

report=$(mktemp)
trap 'rm -f "$report"' EXIT
if install --no-deps --dry-run --only-binary :all: "$tested" --report "$report" >/dev/null 2>&1 &&
    grep -q '+cpu' "$report"; then
    echo "installing $tested, CPU build"
    install "$tested"
else
    echo "installing $requirement (set TORCH_INDEX for another build)"
    install "$requirement"
fi
