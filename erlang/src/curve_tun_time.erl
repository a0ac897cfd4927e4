%%% @private
%%% Deadlines: points in monotonic time that hold from the start to the end of a call. Each node has
%%% its own clock, so what passes from one node to another is the time left.
-module(curve_tun_time).

-export([now_ms/0, deadline/1, left/1, earlier/2]).
-export_type([deadline/0]).

-type deadline() :: integer() | infinity.

%% Returns monotonic milliseconds since the start of the node.
-spec now_ms() -> non_neg_integer().
now_ms() ->
    Native = erlang:monotonic_time() - erlang:system_info(start_time),
    erlang:convert_time_unit(Native, native, millisecond).

-spec deadline(timeout()) -> deadline().
deadline(infinity) -> infinity;
deadline(Timeout) -> now_ms() + Timeout.

%% Returns the time left, as a timeout.
-spec left(deadline()) -> timeout().
left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - now_ms()).

-spec earlier(deadline(), deadline()) -> deadline().
%% Every integer is less than the atom `infinity'.
earlier(A, B) -> min(A, B).
