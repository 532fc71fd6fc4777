set -u
differs=0
CLUSTER=$(kubectl get namespace kube-system -o jsonpath='{.metadata.uid}')
EPOCH=$(kubectl get protectionrules -o jsonpath='{.items[0].status.epoch}')
admin() { kubectl --as=admin --as-group=system:masters "$@"; }
agent() { kubectl --as=agent-7 --as-group=system:masters "$@"; }
alice() { kubectl --as=alice@example.com --as-group=senior-sre --as-group=system:authenticated "$@"; }
bob() { kubectl --as=bob@example.com --as-group=senior-sre --as-group=system:authenticated "$@"; }
carol() { kubectl --as=carol@example.com --as-group=developers --as-group=system:authenticated "$@"; }
ci() { kubectl --as=ci-deployer --as-group=ci --as-group=system:authenticated "$@"; }

# What a request said, in one word.
verdict() {
  case "$1" in
    *"tagout: denied "*) sed -n 's/.*tagout: denied \([A-Za-z]*\) of.*/denied:\1/p' <<<"$1" | head -n 1 ;;
    *"tagout: this approval"*) echo not-accepted ;;
    *"already exists"*) echo exists ;;
    *"being terminated"*) echo terminating ;;
    *NotFound* | *"not found"*) echo not-found ;;
    *Conflict*) echo conflict ;;
    *Invalid* | *invalid*) echo invalid ;;
    *) echo "strange: $1" ;;
  esac
}

# expect VERDICT USER ARGUMENTS: somebody runs kubectl, and this should come of it.
expect() {
  local wanted=$1 said got=passes
  shift
  said=$("$@" 2>&1) || got=$(verdict "$said")
  if [ "$got" = "$wanted" ]; then echo "ok       $wanted: $*"; else echo "DIFFERS  $got, and not $wanted: $*"; differs=1; fi
}

# learn NUMBER RESOURCE NAME NAMESPACE: from now on $uid_NUMBER is its UID.
learn() {
  local number=$1
  shift
  printf -v "uid_$number" %s "$(kubectl get "$1" "$2" ${3:+-n "$3"} -o jsonpath='{.metadata.uid}')"
}

# gone RESOURCE NAME NAMESPACE: waits for controllers.
gone() {
  for _ in $(seq 120); do
    kubectl get "$1" "$2" ${3:+-n "$3"} >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  echo "DIFFERS  $1 $2 is still there"
  differs=1
}

# there UID RESOURCE NAME NAMESPACE
there() {
  local live
  live=$(kubectl get "$2" "$3" ${4:+-n "$4"} -o jsonpath='{.metadata.uid}' 2>/dev/null)
  if [ "$live" = "$1" ]; then echo "ok       $2 $3 is there"; else echo "DIFFERS  $2 $3 is gone"; differs=1; fi
}

# protects UID...: what may go along, as a statement has it.
protects() {
  local sorted='' list=''
  if [ $# -gt 0 ]; then
    sorted=$(printf '%s\n' "$@" | sort)
    list=$(sed 's/.*/"&"/' <<<"$sorted" | paste -sd,)
    sorted=$sorted$'\n'
  fi
  printf '{"digest":"sha256:%s","uids":[%s]}' "$(printf %s "$sorted" | sha256sum | cut -d' ' -f1)" "$list"
}

# statement FIELDS MINUTES-AGO MINUTES-LEFT
statement() {
  printf '{%s,"approvedAt":"%s","expires":"%s"}' "$1" "$(date -u -d "$2 minutes ago" +%FT%TZ)" "$(date -u -d "$3 minutes" +%FT%TZ)"
}

# present EXPECTED USER FLAGS RESOURCE NAME NAMESPACE STATEMENT: writes an approval; with `k` beside those that are there,
# with `l` the label, with `m` as an act of its own, with `s` together with something else.
present() {
  local wanted=$1 user=$2 flags=$3 resource=$4 name=$5 namespace=$6 all="[$7]" old text label='' more='' manager=()
  if [[ $flags == *k* ]]; then
    old=$(kubectl get "$resource" "$name" ${namespace:+-n "$namespace"} -o jsonpath='{.metadata.annotations.tagout\.dev/approval}')
    [ -z "$old" ] || [ "$old" = '[]' ] || all="${old%]},$7]"
  fi
  text=$(sed 's/\\/\\\\/g; s/"/\\"/g' <<<"$all")
  [[ $flags == *l* ]] && label=',"labels":{"tagout.dev/approval":"true"}'
  [[ $flags == *s* ]] && more=",\"smuggled\":\"$RANDOM\""
  [[ $flags == *m* ]] && manager=(--field-manager=tagout-approval)
  expect "$wanted" "$user" patch "$resource" "$name" ${namespace:+-n "$namespace"} --type=merge "${manager[@]}" \
    -p "{\"metadata\":{\"annotations\":{\"tagout.dev/approval\":\"$text\"$more}$label}}"
}

# approval_name ACTION RESOURCE NAMESPACE NAME UID: the one that an Approval has to have.
approval_name() {
  local part
  printf '%s-' "${1,,}"
  for part in "$@"; do
    printf "\\x$(printf %02x $((${#part} & 255)))\\x$(printf %02x $((${#part} >> 8)))\\0\\0\\0\\0\\0\\0%s" "$part"
  done | sha256sum | cut -c1-32
}

# edit EXPECTED USER RULE SPEC USER=TEAM...: changes a rule, after these people approved that.
edit() {
  local wanted=$1 user=$2 rule=$3 spec=$4 hash uid one
  shift 4
  hash=$("$user" patch protectionrule "$rule" --type=merge --dry-run=server -p "{\"spec\":$spec}" 2>&1 | sed -n 's/.*newSpec \(sha256:[0-9a-f]*\).*/\1/p')
  uid=$(kubectl get protectionrule "$rule" -o jsonpath='{.metadata.uid}')
  for one in ${hash:+"$@"}; do
    present passes "${one%%=*}" klm protectionrule "$rule" '' "$(statement "\"action\":\"Loosen\",\"uid\":\"$uid\",\"resource\":\"protectionrules.tagout.dev\",\"name\":\"$rule\",\"cluster\":\"$CLUSTER\",\"epoch\":\"$EPOCH\",\"approver\":\"$(approver "${one%%=*}")\",\"team\":\"${one#*=}\",\"newSpec\":\"$hash\"" 0 20)"
  done
  expect "$wanted" "$user" patch protectionrule "$rule" --type=merge -p "{\"spec\":$spec}"
  in_force "$rule"
}

approver() {
  case $1 in ci) echo ci-deployer ;; agent) echo agent-7 ;; admin) echo admin ;; *) echo "$1@example.com" ;; esac
}

in_force() {
  until [ "$(kubectl get protectionrule "$1" -o jsonpath='{.metadata.generation}')" = "$(kubectl get protectionrule "$1" -o jsonpath='{.status.observedGeneration}')" ]; do sleep 0.3; done
  sleep 1
}
