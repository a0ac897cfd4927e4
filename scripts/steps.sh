# Sourced by the scripts that run checks one after another.
# Each `step NAME COMMAND…` is run, timed and counted; `closing_line` ends the script.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
steps_passed=0
steps_failed=()

step() {
	local name=$1 started=$SECONDS
	shift
	printf '\n== %s\n' "$name"
	if "$@" </dev/null; then
		steps_passed=$((steps_passed + 1))
		printf '== %s: passed in %d s\n' "$name" $((SECONDS - started))
	else
		steps_failed+=("$name")
		printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - started))
	fi
}

closing_line() {
	printf '\n'
	[ ${#steps_failed[@]} -eq 0 ] || printf 'failed: %s\n' "${steps_failed[@]}"
	printf '%s: %d passed, %d failed\n' "$1" "$steps_passed" ${#steps_failed[@]}
	[ ${#steps_failed[@]} -eq 0 ]
}
