# Sourced by the scripts that run checks one after another.
# Each `step NAME COMMAND…` is run, timed and counted; `closing_line` ends the script, and says
# again what failed and how: the output in between is long.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
steps_passed=0
steps_failed=()
steps_logs=$(mktemp -d) || exit 1
trap 'rm -rf "$steps_logs"' EXIT

step() {
	local step_name=$1 step_began=$SECONDS step_passed=no
	# What the step runs sees these names, where its script may have its own.
	local step_log="$steps_logs/${#steps_failed[@]}" step_out step_tee
	shift
	printf '\n== %s\n' "$step_name"
	# The command stays in this shell: a step may wait for a job of its script's.
	exec {step_out}> >(exec tee "$step_log")
	step_tee=$!
	"$@" </dev/null >&"$step_out" 2>&1 {step_out}>&- && step_passed=yes
	exec {step_out}>&-
	# A daemon that the command left behind may hold the pipe open.
	timeout 5 tail --pid="$step_tee" -f /dev/null
	if [ $step_passed = yes ]; then
		steps_passed=$((steps_passed + 1))
		printf '== %s: passed in %d s\n' "$step_name" $((SECONDS - step_began))
	else
		steps_failed+=("$step_name")
		printf '== %s: FAILED after %d s\n' "$step_name" $((SECONDS - step_began))
	fi
}

# Prints the lines of a failed step that name what failed, with what follows them, and its
# last ones.
what_failed() {
	sed $'s/\x1b\\[[0-9;]*m//g' "$1" | awk '
		{ line[NR] = $0 }
		/FAILED|[Ff]ailures?:|^ *(FAIL|TIMEOUT|SIGABRT|SIGSEGV) |panicked at|^error/ { near = 5 }
		near-- > 0 { named[NR] = 1 }
		END {
			for (n = 1; n <= NR; n++)
				if (n > NR - 8 || ((n in named) && shown++ < 40)) print "    " line[n]
		}' | cut -c1-400
}

closing_line() {
	local n
	printf '\n'
	for n in "${!steps_failed[@]}"; do
		printf 'failed: %s\n' "${steps_failed[n]}"
		what_failed "$steps_logs/$n"
	done
	printf '%s: %d passed, %d failed\n' "$1" "$steps_passed" ${#steps_failed[@]}
	[ ${#steps_failed[@]} -eq 0 ]
}
