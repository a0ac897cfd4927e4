defmodule Mix.Tasks.Compile.CurveTunNif do
  @moduledoc false
  use Mix.Task.Compiler

  # cargo builds the NIF, by the script that rebar.config has, too.
  @impl true
  def run(_arguments) do
    priv = Path.join(Mix.Project.app_path(), "priv")
    script = Path.join(__DIR__, "build_nif.sh")

    case System.cmd("sh", [script, priv], into: IO.stream(), stderr_to_stdout: true) do
      {_, 0} -> {:ok, []}
      {_, status} -> Mix.raise("#{script} has failed, with exit code #{status}")
    end
  end
end

defmodule CurveTun.MixProject do
  use Mix.Project

  # What the application is stands in one place, for rebar3 and Mix.
  {:ok, [{:application, :curve_tun, properties}]} =
    :file.consult(Path.join(__DIR__, "src/curve_tun.app.src"))

  @properties properties

  # It needs OTP alone: no dependency, and so neither Hex nor rebar3.
  def project do
    [
      app: :curve_tun,
      version: to_string(@properties[:vsn]),
      description: to_string(@properties[:description]),
      language: :erlang,
      compilers: [:curve_tun_nif, :erlang, :app],
      deps: []
    ]
  end

  def application do
    @properties
    |> Keyword.take([:mod, :registered, :env])
    |> Keyword.put(:extra_applications, @properties[:applications] -- [:kernel, :stdlib])
  end
end
