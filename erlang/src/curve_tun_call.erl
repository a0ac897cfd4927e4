%%% @private
%%% Calls a process and waits for its answer, for as long as it takes.
%%%
%%% A waiting caller must not be inside this application's code: it would be killed when the code is
%%% reloaded a second time, or would have to wake up regularly to leave it. So the wait and what
%%% follows it are steps of `lists:foldl/3', each looked up by name when it is due.
-module(curve_tun_call).

-export([call/2, call/3, wait/2, step/2]).
-export_type([step/0]).

%% A step after the wait: an exported function, `fun Module:Name/N', applied to the given arguments
%% and the result of the previous step.
-type step() :: wait | answer | {fun(), Arguments :: [term()]}.

%% Calls a `gen_server' or `gen_statem'. A process that no longer exists counts as closed.
-spec call(pid(), term()) -> term().
call(Process, Request) ->
    call(Process, Request, []).

%% The same, with steps that process the answer.
-spec call(pid(), term(), [step()]) -> term().
call(Process, Request, Then) ->
    wait(gen_server:send_request(Process, Request), Then).

%% Waits for the answer to a request already sent.
-spec wait(gen_server:request_id(), [step()]) -> term().
wait(RequestId, Then) ->
    lists:foldl(fun ?MODULE:step/2, RequestId, [wait, answer | Then]).

-spec step(step(), term()) -> term().
step(wait, RequestId) -> gen_server:wait_response(RequestId, infinity);
step(answer, {reply, Reply}) -> Reply;
step(answer, {error, _}) -> {error, closed};
step({Function, Arguments}, Result) -> apply(Function, Arguments ++ [Result]).
