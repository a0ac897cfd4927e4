%%% @private
%%% Asking a process, and waiting for its answer for as long as it takes.
%%%
%%% Whoever waits is in no code of this application meanwhile: who were would be killed when that is
%%% reloaded a second time, or would have to wake up now and then to come out of it. So the wait and
%%% what is done after it are steps of `lists:foldl/3', each found by its name when it is due.
-module(curve_tun_call).

-export([call/2, call/3, wait/2, step/2]).
-export_type([step/0]).

%% What is done after the wait: an exported function, `fun Module:Name/N', of the arguments given
%% and of what the step before gave.
-type step() :: wait | answer | {fun(), Arguments :: [term()]}.

%% Asks a `gen_server' or `gen_statem'. One that is gone is closed.
-spec call(pid(), term()) -> term().
call(Process, Request) ->
    call(Process, Request, []).

%% The same, and then what the steps make of the answer.
-spec call(pid(), term(), [step()]) -> term().
call(Process, Request, Then) ->
    wait(gen_server:send_request(Process, Request), Then).

%% Waits for the answer to a request that was sent.
-spec wait(gen_server:request_id(), [step()]) -> term().
wait(RequestId, Then) ->
    lists:foldl(fun ?MODULE:step/2, RequestId, [wait, answer | Then]).

-spec step(step(), term()) -> term().
step(wait, RequestId) -> gen_server:wait_response(RequestId, infinity);
step(answer, {reply, Reply}) -> Reply;
step(answer, {error, _}) -> {error, closed};
step({Function, Arguments}, Result) -> apply(Function, Arguments ++ [Result]).
