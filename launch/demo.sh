#!/usr/bin/env bash
# Trains a teacher, a KDFAS student and a control student on labels alone, on simulated faces; compares the three.
# A fresh machine needs Python 3.11 or later and about 10 minutes on two cores. No data is downloaded. The runs are
# runs/kdfas_demo, runs/kdfas_demo_control and a folder of runs/teachers; finished runs are not trained again. Arguments
# are overrides for both students, such as --config.train.epochs=1.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
student=runs/kdfas_demo control=runs/kdfas_demo_control
python main.py --workdir=$student "$@"
# The variant `none` of configs/ablation.py: the same start, batches and number of steps without the teacher.
python main.py --workdir=$control --config.terms.ce.weight=1.0 --config.terms.kl.weight=0.0 \
  --config.terms.covariance.weight=0.0 "$@"
teacher=$(python -c "import json; print(json.load(open('$student/eval/results.json'))['teachers']['spoof']['run'])")
python main.py --mode=eval --runs="$teacher,$control,$student"
cat <<END

$student/report/index.html is the student's page. Try next, each line as it is:
  launch/run.sh --mode=predict --workdir=$student --input=docs/faces.jpg --annotate=runs/annotated
  launch/run.sh --mode=eval --workdir=$student --config.report.faces=true
  launch/run.sh --mode=export --workdir=$student --format=stablehlo
docs/own-data.md is about your own pictures.
END
