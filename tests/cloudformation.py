"""Resolve template.yaml as CloudFormation does: the SAM transform, parameters and functions."""

import re
from functools import cache
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from tests.support import ROOT

PARTITION, REGION, ACCOUNT, STACK = "aws", "eu-central-1", "123456789012", "posedrop"
PSEUDO = {"AWS::Partition": PARTITION, "AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::StackName": STACK}
REGIONAL = f"{REGION}:{ACCOUNT}"
ARNS = {
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGIONAL}:alarm:{{}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGIONAL}:table/{{}}",
    "AWS::Events::Rule": f"arn:aws:events:{REGIONAL}:rule/{{}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGIONAL}:function:{{}}",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGIONAL}:{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGIONAL}:{{}}",
    "AWS::SecretsManager::Secret": f"arn:aws:secretsmanager:{REGIONAL}:secret:{{}}",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGIONAL}:stateMachine:{{}}",
}
"""The ARN of each kind of resource. The resources have their logical names."""
REF_IS_ARN = {"AWS::SNS::Topic", "AWS::SecretsManager::Secret", "AWS::StepFunctions::StateMachine"}
NOTHING = object()
"""The value of AWS::NoValue."""


@cache
def source() -> dict[str, Any]:
    """Return the template before the transform, with its short forms expanded."""
    found: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    return found


@cache
def transformed() -> dict[str, Any]:
    """Return the template after the SAM transform."""
    raw = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    for found in raw["Resources"].values():
        for name in {"CodeUri", "ContentUri", "DefinitionUri"} & set(found.get("Properties", {})):
            found["Properties"][name] = "s3://artifacts/key"  # as `sam package` leaves it
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    result: dict[str, Any] = translator.translate(raw, {})
    return result


class Stack:
    """A stack of the template with these parameters, the others at their defaults."""

    def __init__(self, **parameters: Any) -> None:
        template = transformed()
        given = {"SegmindApiKey": "SG_0", **parameters}
        unknown = set(given) - set(template["Parameters"])
        assert not unknown, f"no such parameters: {unknown}"
        self.parameters = {
            name: given.get(name, found.get("Default")) for name, found in template["Parameters"].items()
        }
        self._conditions = template["Conditions"]
        self._types = {name: found["Type"] for name, found in template["Resources"].items()}
        self.resources: dict[str, dict[str, Any]] = {
            name: {**found, "Properties": self._resolve(found.get("Properties", {}))}
            for name, found in template["Resources"].items()
            if "Condition" not in found or self._condition(found["Condition"])
        }

    def properties(self, name: str) -> dict[str, Any]:
        """Return the properties of a resource."""
        found: dict[str, Any] = self.resources[name]["Properties"]
        return found

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of all resources of a type, by their logical names."""
        return {name: found["Properties"] for name, found in self.resources.items() if found["Type"] == kind}

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Return the statements of a role's policies."""
        return [
            statement
            for policy in self.properties(role)["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
        ]

    def _condition(self, name: str) -> bool:
        return bool(self._resolve(self._conditions[name]))

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for item in value if (found := self._resolve(item)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in ("Ref", "Condition") or name.startswith("Fn::"):
                return self._call(name, argument)
        found = {key: self._resolve(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not NOTHING}

    def _call(self, function: str, argument: Any) -> Any:
        match function:
            case "Ref":
                return self._ref(argument)
            case "Condition":
                return self._condition(argument)
            case "Fn::If":
                name, yes, no = argument
                return self._resolve(yes if self._condition(name) else no)
            case "Fn::Equals":
                left, right = self._resolve(argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self._resolve(argument)[0]
            case "Fn::Join":
                separator, parts = argument[0], self._resolve(argument[1])
                return separator.join(parts if isinstance(parts, list) else [parts])
            case "Fn::GetAtt":
                return self._attribute(*(argument.split(".", 1) if isinstance(argument, str) else argument))
            case "Fn::Sub":
                text, variables = (argument, {}) if isinstance(argument, str) else argument
                return self._substitute(text, {name: self._resolve(found) for name, found in variables.items()})
        raise NotImplementedError(function)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        return self._attribute(name, "Arn") if self._types[name] in REF_IS_ARN else name

    def _attribute(self, name: str, attribute: str) -> str:
        if attribute in ("Arn", "Id"):
            return ARNS[self._types[name]].format(name)
        assert attribute in ("Name", "QueueName"), attribute
        return name

    def _substitute(self, text: str, variables: dict[str, Any]) -> str:
        def found(match: re.Match[str]) -> str:
            name = match[1]
            if name in variables:
                return str(variables[name])
            return str(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^!}]+)\}", found, text)
