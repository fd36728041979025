# fish completion of ballast, ballastd and ballast-qemu. `ballast complete` knows the candidates.

function __ballast_complete
    set -l words (commandline -opc) (commandline -ct)
    command $words[1] complete $words[2..-1] 2>/dev/null
end

complete -c ballast -f -a '(__ballast_complete)'
# Behind "--" are QEMU's words.
complete -c ballast -n 'contains -- -- (commandline -opc)' -F

complete -c ballastd -l memory -x -d 'Machine memory to spend on VMs'
complete -c ballastd -l run-dir -r -d 'Sockets and lock'
complete -c ballastd -l swap-dir -r -d 'Swap files'
complete -c ballastd -l state-dir -r -d 'Options set at run time'
complete -c ballastd -l config -r -d 'Configuration'
complete -c ballastd -l check-config -d 'Read the configuration and exit'
complete -c ballastd -l log-level -x -a 'info warning error' -d 'Least severity'
complete -c ballastd -l http -x -a off -d 'Dashboard, API and metrics'
complete -c ballastd -l version
complete -c ballastd -l help

complete -c ballast-qemu -l ballast-help
complete -c ballast-qemu -l ballast-dry-run
